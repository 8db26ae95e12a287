"""What a row is, and what it is run with."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.clients import Clients, Plan, Told
from benchmarks.origin import Origin
from benchmarks.results import Case, Metric, Results
from benchmarks.servers import START, Server, Site

T = TypeVar("T")
SETTLE = 0.4
"""Seconds after the last answer in which what a server still does for it is counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison, or several: one for each case and metric.

    Attributes:
        name: to call it by.
        title: what is measured.
        metrics: what each round gives.
        run: measures it.
        x_label: what `Case.x` is; "" where there is nothing to plot.
    """

    name: str
    title: str
    metrics: Sequence[Metric]
    run: Callable[["Bench"], None]
    x_label: str = ""


class Bench:
    """The clients, a folder, and the results, for one row after the other.

    Args:
        results: takes what is measured.
        clients: the processes that ask.
        quick: whether to measure less of everything.
    """

    def __init__(self, results: Results, clients: Clients, *, quick: bool) -> None:
        self.clients, self.quick = clients, quick
        self.row = ""
        self._results = results
        self._folder = Path()

    def pick(self, full: T, quick: T) -> T:
        """The one of two sizes that is wanted."""
        return quick if self.quick else full

    def rounds(self, full: int) -> range:
        """So many, or one."""
        return range(self.pick(full, 1))

    def add(self, server: str, case: Case, values: Mapping[str, float]) -> None:
        """Note a round of this row."""
        for metric, value in values.items():
            self._results.add(self.row, case, server, metric, value)

    @contextmanager
    def origin(self) -> Iterator[Origin]:
        """A folder for everything, and the release server; both are gone at the end."""
        with tempfile.TemporaryDirectory(prefix="omaha-bench-") as folder:
            self._folder = Path(folder)
            with Origin(self._folder / "origin") as origin:
                yield origin

    def site(self, origin: Origin, versions: Sequence[str], **changes: Any) -> Site:
        """A new directory for a server; `changes` are of the mirror's config."""
        directory = Path(tempfile.mkdtemp(dir=self._folder))
        return Site(directory, origin.folder, origin.url, versions, changes)

    @contextmanager
    def servers(
        self, origin: Origin, names: Sequence[str], versions: Sequence[str]
    ) -> Iterator[list[Server]]:
        """Those of the named servers that are installed, running."""
        with ExitStack() as stack:
            yield [
                stack.enter_context(START[name](self.site(origin, versions)))
                for name in names
                if name in self._results.versions
            ]

    def measure(self, server: Server, plan: Plan) -> tuple[Told, float]:
        """Let clients do what the plan says; what they got, and the server's CPU seconds for it."""
        before = server.cpu()
        told = self.clients.run(plan)
        if not told.count:
            raise RuntimeError(f"{server.name} answered nothing: see {server.log}")
        self.settle()
        return told, server.cpu() - before

    def settle(self) -> None:
        """Let servers do what they still have to do."""
        time.sleep(SETTLE)
