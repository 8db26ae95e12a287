"""What was measured, and on what machine; kept as JSON."""

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


def machine() -> str:
    """The processor, the memory and the systems that a run is made on, and how busy they are."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory >> 30} GiB,"
        f" Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that a row measures; the name has its unit. `higher_is_better` says who is ahead."""

    name: str
    higher_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One size of a row's load; `x` is its place on a plot."""

    name: str
    x: float = 0.0


@dataclass(slots=True)
class Sample:
    """The values of one metric of one server, one a round."""

    row: str
    case: str
    x: float
    server: str
    metric: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the rounds."""
        return median(self.values)


@dataclass(slots=True)
class Results:
    """A run.

    Attributes:
        command: that makes the same run again.
        versions: of each server.
        machine: what it ran on.
        when: the day.
        seconds: that each row took.
        samples: in the order of the rows.
    """

    command: str
    versions: dict[str, str]
    machine: str = field(default_factory=machine)
    when: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat()
    )
    seconds: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def add(self, row: str, case: Case, server: str, metric: str, value: float) -> None:
        """Note one round."""
        sample = self.find(row, case.name, server, metric)
        if sample is None:
            sample = Sample(row, case.name, case.x, server, metric)
            self.samples.append(sample)
        sample.values.append(value)

    def find(self, row: str, case: str, server: str, metric: str) -> Sample | None:
        """The rounds of one thing, if it was measured."""
        wanted = (row, case, server, metric)
        found = (s for s in self.samples if (s.row, s.case, s.server, s.metric) == wanted)
        return next(found, None)

    def cases(self, row: str) -> Sequence[str]:
        """Of a row, in the order in which they were measured."""
        return list(dict.fromkeys(sample.case for sample in self.samples if sample.row == row))

    def save(self, file: Path) -> None:
        """Write them, to the four digits that a measurement is good for at most."""
        told = asdict(self)
        for sample in told["samples"]:
            sample["values"] = [float(f"{value:.4g}") for value in sample["values"]]
        told["seconds"] = {row: round(seconds, 1) for row, seconds in self.seconds.items()}
        lines = ",\n  ".join(json.dumps(sample) for sample in told.pop("samples"))
        head = json.dumps(told, indent=1)[:-2]
        file.write_text(f'{head},\n "samples": [\n  {lines}\n ]\n}}\n')

    @classmethod
    def load(cls, file: Path) -> "Results":
        """Read them."""
        told = json.loads(file.read_text())
        samples = [Sample(**sample) for sample in told.pop("samples")]
        return cls(**told, samples=samples)
