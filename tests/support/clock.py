"""A clock that a test sets."""

import time

from omaha_mirror.aio.clock import DAY, Clock


class SetClock(Clock):
    """A machine whose clock is `ahead` of the right time by seconds, and that has run `later` seconds longer than it has.

    Args:
        ahead: see above; less than 0 is behind.
        synchronised: whether the kernel says that the clock is right.
    """

    def __init__(
        self, ahead: float = 0.0, *, later: float = 0.0, synchronised: bool = False
    ) -> None:
        self.ahead = ahead
        self.later = later
        self.synchronised = synchronised
        super().__init__(
            wall=lambda: self.right() + self.ahead,
            boottime=lambda: time.monotonic() + self.later,
            synchronised=lambda: self.synchronised,
        )

    def right(self) -> float:
        """The right time, in seconds since the epoch."""
        return time.time() + self.later

    def a_day(self) -> None:
        """Let a day pass in which nobody looks."""
        self.later += DAY + 1


def machine_clock() -> Clock:
    """Believes the clock of this machine."""
    return Clock(synchronised=lambda: True)


class StoppedClock(Clock):
    """A right clock on which time passes when it is told to: `now`, in seconds since the epoch and since the boot."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        super().__init__(
            wall=lambda: self.now, boottime=lambda: self.now, synchronised=lambda: True
        )
