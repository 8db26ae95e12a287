"""What the public listener reports to the service behind it."""

from __future__ import annotations

from dataclasses import dataclass

from omaha_mirror.cache.events import Status
from omaha_mirror.catalog import PackageFile
from omaha_mirror.omaha import AppRequest, Request
from omaha_mirror.policy.decide import Decision


@dataclass(frozen=True, slots=True)
class AppReport:
    """What a machine sent about one application, and what it was told.

    Attributes:
        request: all of what it sent.
        app: the part of it.
        decision: None where it did not ask for an update.
        remote: the address that it came from.
    """

    request: Request
    app: AppRequest
    decision: Decision | None
    remote: str


@dataclass(frozen=True, slots=True)
class TransferReport:
    """A package, or a part of it, on its way to a machine, when it ended.

    Attributes:
        file: that was asked for.
        remote: the address that asked.
        start: first byte asked for; `stop` is after the last.
        count: bytes that were sent.
        cache: how the request met the cache.
        seconds: that it took.
    """

    file: PackageFile
    remote: str
    start: int
    stop: int
    count: int
    cache: Status
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all that was asked for was sent."""
        return self.count == self.stop - self.start
