"""The events that the cache reports to its hook, for metrics and logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Status = Literal["hit", "filling", "miss"]
"""How the cache had the blob of a request: proven, growing (collapsed forwarding), or not at all: the request starts a fill."""


class Outcome(StrEnum):
    """How a fill ended."""

    PROVEN = "proven"
    WRONG = "wrong"
    UNTRUSTED = "untrusted"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Opened:
    """A reader was opened."""

    key: str
    status: Status


@dataclass(frozen=True, slots=True)
class FillStarted:
    """A fill began, or went on after a restart with `resumed` bytes on disk."""

    key: str
    source: str
    size: int
    resumed: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A cursor opened an upstream connection at `start`."""

    key: str
    source: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """A cursor failed and will try again after `pause` seconds."""

    key: str
    source: str
    position: int
    reason: str
    pause: float


@dataclass(frozen=True, slots=True)
class Repaired:
    """[start, stop) of a growing blob was wrong, and is fetched again; `leaked`: some of it was sent."""

    key: str
    source: str
    start: int
    stop: int
    leaked: bool


@dataclass(frozen=True, slots=True)
class Uncached:
    """The disk has no room for a blob, or fails: the blob is served from memory, and not kept."""

    key: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class FillEnded:
    """A fill ended after `fetched` bytes from upstream."""

    key: str
    source: str
    fetched: int
    seconds: float
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """A blob was removed to make room."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A proven blob turned out wrong; it is served no more, and put aside where the disk lets it."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A blob was verified again on its first use, in so many seconds."""

    key: str
    size: int
    seconds: float


Event = (
    Opened
    | Corrupted
    | Verified
    | FillStarted
    | Connected
    | Trouble
    | Repaired
    | Uncached
    | FillEnded
    | Evicted
)
Hook = Callable[[Event], None]
