"""A schedule: all that will happen to a simulated site, and when. Plain data, made from a seed.

Whatever machines and events are left out of a schedule, the rest is one too: so a failure is shrunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from omaha_mirror.config import Config
from tests.sim.releases import OLD, Release
from tests.support.faults import Change, Fault
from tests.support.mirror import PAYLOAD

RELEASE_PORT, OMAHA_PORT = 80, 81
OMAHA = "/v1/update/"
ELSEWHERE = "/elsewhere"
"""Where each file can be had too."""
RULES: dict[str, str] = {
    "stable": "follow",
    "beta": "pin",
    "prod": "hold",
    "edge": "relay",
    "lts": "bare",
}
"""What the config says of the tracks; `pin` is to the first release, `bare` to the one of which upstream tells no digest."""

MachineKind = Literal["update_engine", "ranges", "curl"]
LineHow = Literal["stall", "reset", "fin", "refuse", "lost", "slow"]
EndHow = Literal["kill", "power", "stop"]
Doing = Literal["hold", "pin", "release", "reload", "remove", "gc", "verify", "import"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A line: seconds of latency, bytes a second, bytes at most that arrive together, bytes that each kernel keeps."""

    latency: float = 0.002
    rate: float = 20e6
    segment: int = 16 * 1024
    buffer: int = 128 * 1024

    def __str__(self) -> str:
        return f"{1000 * self.latency:g} ms, {self.rate / 1e6:g} MB/s, pieces of {self.segment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """A machine.

    Attributes:
        number: of it.
        at: its first check.
        kind: update_engine's rules; `ranges`: of a resuming update_engine and others, one after the other; `curl`: goes on
            with what it has after each cut.
        track, version, oem: what it says of itself.
        link: to the mirror.
        mirror: which one it asks, 1 or 2.
        stops: when it is restarted, in seconds: a transfer ends in the middle, and is gone on with at its next check.
        seed: of its own choices.
    """

    number: int
    at: float
    kind: MachineKind = "update_engine"
    track: str = "stable"
    version: str = OLD
    oem: str = ""
    link: Link = Link()
    mirror: int = 1
    stops: tuple[float, ...] = ()
    seed: int = 0

    def __str__(self) -> str:
        stops = f", is restarted at {_times(self.stops)}" if self.stops else ""
        oem = f", OEM {self.oem}" if self.oem else ""
        where = " of the second mirror" if self.mirror == 2 else ""
        return f"[{self.at:9.3f}] machine {self.number} ({self.kind}, {self.track} {self.version}{oem}; {self.link}){where} begins{stops}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happens at a time.

    Attributes:
        at: seconds from the beginning.
        seconds: how long it lasts; 0 where it is done at once.
    """

    at: float
    seconds: float = 0.0

    @property
    def over(self) -> float:
        """When it is over."""
        return self.at + self.seconds

    def __str__(self) -> str:
        said = (
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if one.name != "at" and getattr(self, one.name) != one.default
        )
        return f"[{self.at:9.3f}] {type(self).__name__} {' '.join(said)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Armed(Event):
    """The upstream is told to misbehave at a path, from then on until the fault is used up."""

    path: str
    fault: Fault

    def __str__(self) -> str:
        shown = replace(self.fault, body=b"...") if isinstance(self.fault, Change) else self.fault
        return f"[{self.at:9.3f}] {shown} at {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Event):
    """Upstream leads a track to another version."""

    version: str
    track: str = "stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Event):
    """Nobody listens at a port of upstream; what is open there is reset."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Act(Event):
    """An operator does something; `version` where it is about one."""

    what: Doing
    track: str = "stable"
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Event):
    """The mirror ends: killed, without power, or stopped in order; it starts again after `seconds`.

    Attributes:
        change: ends it before the n-th change of the disk from then on; 0: at once.
        mirror: which one.
    """

    how: EndHow = "kill"
    change: int = 0
    mirror: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTrouble(Event):
    """A line has trouble: `upstream`, or `machine N`."""

    who: str
    how: LineHow
    rate: float = 2000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTrouble(Event):
    """The mirror's disk has trouble; `kind` as the disk names its calls, or `full` or `hang`."""

    kind: str
    what: str = "EIO"
    nth: int = 1
    times: int = 1
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJump(Event):
    """The machine's clock is set: it goes wrong by so many seconds."""

    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rot(Event):
    """A bit of a package on the disk flips, if the mirror is not running; `where` is its place in [0, 1) of them all.

    What a running mirror has verified is found by its weekly reading alone.
    """

    where: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the mirror is configured.

    Attributes:
        link: from it to upstream.
        second: whether a second mirror stands behind it.
        limits: of `cache.Limits`, by name.
    """

    hold_back: int = 16 * 1024
    stall_timeout: float = 5.0
    max_connections: int = 4
    max_fills: int = 3
    rate_limit: int | None = None
    max_size: int = 1 << 30
    when_abandoned: Literal["finish", "stop"] = "finish"
    forward_events: Literal["none", "anonymous", "all"] = "all"
    link: Link = Link(latency=0.02, rate=2e6, buffer=16 * 1024)
    second: bool = False
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def config(
        self, directory: Path, release_url: str, omaha_url: str, pins: Mapping[str, str]
    ) -> Config:
        """The config of a mirror; `pins` are the versions that a kind of rule is a pin to."""
        return Config.model_validate(self.written(directory, release_url, omaha_url, pins))

    def written(
        self, directory: Path, release_url: str, omaha_url: str, pins: Mapping[str, str]
    ) -> dict[str, Any]:
        """The same as a config file has it."""
        return {
            "listen": ["0.0.0.0:8080"],
            "admin": {"listen": []},
            "cache": {
                "directory": str(directory / "cache"),
                "min_free": 0,
                "max_size": self.max_size,
                "hold_back": self.hold_back,
                "when_abandoned": self.when_abandoned,
            },
            "state_directory": str(directory / "state"),
            "default_track": "hold",
            "tracks": {track: pins.get(rule, rule) for track, rule in RULES.items()},
            "upstream": {
                "omaha_url": omaha_url,
                "release_url": release_url,
                "payload_name": PAYLOAD,
                "stall_timeout": f"{self.stall_timeout:g}s",
                "max_connections": self.max_connections,
                "max_fills": self.max_fills,
                "rate_limit": self.rate_limit,
                "forward_events": self.forward_events,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run.

    Attributes:
        seed: that it was made from.
        settings: of the mirrors.
        releases: that upstream has, oldest first; the first one is offered from the beginning.
        bare: one that is pinned and that the release server alone has, without a sidecar: its whole size under one validator
            is all that proves it.
        machines: that are there.
        events: that happen, in the order of their times.
    """

    seed: int
    settings: Settings
    releases: tuple[Release, ...]
    bare: Release
    machines: tuple[MachinePlan, ...]
    events: tuple[Event, ...]

    @property
    def pins(self) -> dict[str, str]:
        """The version that each kind of rule that is a pin is to."""
        return {"pin": self.releases[0].version, "bare": self.bare.version}

    @property
    def quiet(self) -> float:
        """When the last trouble is over."""
        return max([0.0, *(event.over for event in self.events), *(m.at for m in self.machines)])

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.settings}"]
        lines += [
            f"release {release.version}: {len(release.payload)} bytes" for release in self.releases
        ]
        lines += sorted(map(str, (*self.machines, *self.events)))
        return "\n".join(lines)


def _times(times: tuple[float, ...]) -> str:
    return ", ".join(f"{at:.3f}" for at in times)
