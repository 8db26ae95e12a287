"""Port: what time it is. Times of day are seconds since the epoch."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Quick enough for the event loop."""

    def boottime(self) -> float:
        """Seconds since some moment, whatever is done to the machine's clock: for windows in one process."""

    def time(self) -> float:
        """The time of day."""

    def stamp(self) -> float:
        """The same for what is kept and waited for: a time in the future while the time of day is not known."""

    def at_least(self) -> float:
        """A time of day that has surely come."""

    def age(self, then: float) -> float:
        """Seconds that have surely passed since a time of day; 0 for one in the future."""


class MachineClock:
    """Believes the machine's clock."""

    def boottime(self) -> float:
        """See `Clock.boottime`."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def time(self) -> float:
        """See `Clock.time`."""
        return time.time()

    def stamp(self) -> float:
        """See `Clock.stamp`."""
        return time.time()

    def at_least(self) -> float:
        """See `Clock.at_least`."""
        return time.time()

    def age(self, then: float) -> float:
        """See `Clock.age`."""
        return max(0.0, time.time() - then)
