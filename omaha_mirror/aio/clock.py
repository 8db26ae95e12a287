"""What time it is, and whether that is sure.

Machines start without a battery behind their clock, and clocks are put right while things run. So a window that begins
and ends in one process goes by `boottime`, and the time of day is believed only when there is evidence for it:

- it is within five minutes of upstream's Date, or
- the kernel says that it is synchronised, or
- it and the time since the boot went on together for a day, and no upstream contradicted it.

What was believed once in a process stays known, whatever is done to the machine's clock after that. A time that is noted
before is `LATER`. A time in the future counts as now, everywhere, and becomes it when the clock is sure.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog

from omaha_mirror.aio.workers import STATE
from omaha_mirror.state_file import replace_file, restore
from omaha_mirror.text import minute

SKEW = 300.0
"""Seconds that two clocks may be apart and still say the same."""
DAY = 24 * 3600.0
LATER = 4102444800.0
"""The year 2100, in seconds since the epoch: what is noted while nobody knows the time."""
BUILT = 1764201600.0
"""November 2025: before that there was no such program, so a clock that says so is wrong."""
SET_IT = "set the clock (timedatectl set-ntp true)"
KERNEL = 1.0
"""Seconds for which the kernel's word is remembered."""


since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since the boot, in which the machine slept too."""


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` (linux/timex.h), and more than the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("figures", ctypes.c_long * 4),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


TIME_ERROR, STA_UNSYNC = 5, 0x40


def kernel_synchronised() -> bool:
    """Whether the kernel says that something keeps its clock right (adjtimex, man page 2)."""
    timex = _Timex()
    state: int = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    return 0 <= state < TIME_ERROR and not timex.status & STA_UNSYNC


class Clock:
    """Tells the time and lets it pass.

    Args:
        wall: the machine's clock, in seconds since the epoch.
        boottime: seconds since some moment, whatever is done to the machine's clock.
        synchronised: whether the kernel says that its clock is right.

    Attributes:
        boottime: see above: for what begins and ends in a process.
        apart: seconds by which the machine's clock is ahead of upstream's; None where upstream agrees, or was not heard.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = since_boot,
        synchronised: Callable[[], bool] = kernel_synchronised,
    ) -> None:
        self.apart: float | None = None
        self.boottime = boottime
        self._wall = wall
        self._boottime = boottime
        self._synchronised = synchronised
        self._offset = wall() - boottime()
        self._steady_since = boottime()
        self._kernel = False
        self._kernel_until = float("-inf")
        self._turns = 0
        self._believed: float | None = None
        """The time of day when `boottime` was 0, as it is believed."""
        self._floor: float | None = None
        """The same, by the last time that was believed before the start: it was not earlier."""

    async def sleep(self, seconds: float) -> None:
        """Come back after so long."""
        await asyncio.sleep(seconds)

    # For what is kept and shown

    @property
    def sure(self) -> bool:
        """Whether the time of day is known."""
        self._look()
        return self._believed is not None

    @property
    def turns(self) -> int:
        """How often what is believed became another: times that lie in the future are to be looked at again."""
        self._look()
        return self._turns

    def time(self) -> float:
        """Seconds since the epoch, as well as they are known: for what is shown, and for records."""
        boot, wall = self._look()
        if self._believed is not None:
            return self._believed + boot
        return wall if self._floor is None else max(wall, self._floor + boot)

    def stamp(self) -> float:
        """Now, for what is kept and waited for: `LATER` while the time is not known."""
        boot, _ = self._look()
        return LATER if self._believed is None else self._believed + boot

    def at_least(self) -> float:
        """A time that has surely come: nothing ends or is purged that would not be by then."""
        boot, wall = self._look()
        if self._believed is not None:
            return self._believed + boot
        return 0.0 if self._floor is None else min(wall, self._floor + boot)

    def age(self, then: float) -> float:
        """Seconds that have surely passed since a time of day; 0 for one in the future."""
        return max(0.0, self.at_least() - then)

    # Evidence

    def restore(self, then: float) -> None:
        """Take up a time that was believed before the start."""
        self._floor = then - self._boottime()

    def told(self, date: float) -> None:
        """Note the time that upstream told just now."""
        boot, wall = self._look()
        if abs(wall - date) <= SKEW:
            self.apart = None
            self._believe(wall - boot)
        else:
            self.apart = wall - date
            self._steady_since = boot

    def trouble(self) -> str:
        """What is wrong with the machine's clock, as a sentence without its end; empty where nothing is."""
        self._look()
        wall = self._wall()
        says = f"this machine's clock says {minute(wall)}"
        if self._kernel:
            return ""
        if self.apart is not None:
            side = "ahead of" if self.apart > 0 else "behind"
            return f"{says}, {timedelta(seconds=round(abs(self.apart)))} {side} upstream's"
        if wall < BUILT:
            return f"{says}, which is before this program was made"
        if self._believed is None:
            return f"{says}, and nothing has confirmed it yet"
        if abs(self._believed + self._boottime() - wall) > SKEW:
            return f"{says}, and was set there from {minute(self._believed + self._boottime())}"
        return ""

    def _look(self) -> tuple[float, float]:
        """Weigh what is known without asking anybody. The time since the boot, and the machine's clock."""
        boot, wall = self._boottime(), self._wall()
        offset = wall - boot
        jumped = abs(offset - self._offset) > SKEW
        self._offset = offset
        if jumped:
            self._steady_since = boot
        if jumped or boot >= self._kernel_until:
            self._kernel = self._synchronised()
            self._kernel_until = boot + KERNEL
        if self._believed is not None and abs(offset - self._believed) <= SKEW:
            self._believed = offset
        elif self._kernel or boot - self._steady_since >= DAY:
            self._believe(offset)
        return boot, wall

    def _believe(self, offset: float) -> None:
        if self._believed is None or abs(offset - self._believed) > SKEW:
            self._turns += 1
        self._believed = offset


LOOK = 60.0
"""Seconds between looks at the clock while nothing else asks."""
EVERY = 3600.0
"""Seconds between writes."""
LIMIT = 4096
LOG = structlog.get_logger(__name__)


class ClockFile:
    """Keeps a clock's word across restarts.

    Args:
        clock: whose.
        path: of the file.
    """

    def __init__(self, clock: Clock, path: Path) -> None:
        self._clock = clock
        self._path = path
        self._turns = 0
        self._due = 0.0

    async def start(self) -> None:
        """Take up what was known. A file that cannot be used says nothing."""
        loss = "when the mirror last ran is not known"
        found = await STATE.call(restore, self._path, LIMIT, _read, loss)
        if found is not None:
            self._clock.restore(found)

    async def run(self) -> None:
        """Look at the clock until cancelled, and write down what it says while it is sure."""
        while True:
            if self._clock.sure and (
                self._clock.turns != self._turns or self._clock.boottime() >= self._due
            ):
                await self.save()
            await self._clock.sleep(LOOK)

    async def save(self) -> None:
        """Write down the time, if it is known. It matters little: a full disk is no trouble here."""
        if not self._clock.sure:
            return
        self._turns, self._due = self._clock.turns, self._clock.boottime() + EVERY
        text = json.dumps({"time": self._clock.time()})
        try:
            await STATE.call(replace_file, self._path, text.encode())
        except OSError as error:
            LOG.info("the time cannot be written down", why=str(error))


def _read(text: bytes) -> float:
    then = float(json.loads(text)["time"])
    if not 0 <= then < LATER:
        raise ValueError("it tells a time that nobody can have known")
    return then
