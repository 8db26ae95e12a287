"""The time of day, and whether it is sure.

A machine's clock may be wrong at the start, and may be set while the mirror runs. So a period that begins and ends in one
process is measured by `boottime`, and the time of day is sure only with evidence:

- it is within five minutes of upstream's Date, or
- the kernel reports that it is synchronised, or
- it and the time since the boot advanced equally for a day, and no upstream contradicted it.

A sure time stays sure in this process, also when the machine's clock is set to another time. Before, `stamp` gives
`LATER`. A stored time in the future counts as now, and is replaced by now when the clock becomes sure.
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
"""Seconds by which two clocks may differ and still agree."""
DAY = 24 * 3600.0
LATER = 4102444800.0
"""The year 2100, in seconds since the epoch: the time stamp while the time of day is not sure."""
BUILT = 1764201600.0
"""November 2025: this program did not exist before, so a clock with an earlier time is wrong."""
SET_CLOCK = "set the clock (timedatectl set-ntp true)"
KERNEL_FRESH = 1.0
"""Seconds for which the kernel's answer is cached."""


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The kernel's name of this boot (random(4))."""

since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since the boot, suspended time included."""


class _Timex(ctypes.Structure):
    """The first fields of `struct timex` (linux/timex.h), and room for all others."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("figures", ctypes.c_long * 4),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


TIME_ERROR, STA_UNSYNC = 5, 0x40


def kernel_synchronised() -> bool:
    """Whether the kernel's clock is synchronised (adjtimex(2))."""
    timex = _Timex()
    state: int = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    return 0 <= state < TIME_ERROR and not timex.status & STA_UNSYNC


def boot_id() -> str:
    """The kernel's name of this boot; empty where it gives none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Clock:
    """The time of day with its evidence, the time since the boot, and sleep.

    Args:
        wall: the machine's clock, in seconds since the epoch.
        boottime: seconds since a fixed moment; setting the machine's clock does not change it.
        synchronised: whether the kernel's clock is synchronised.
        boot: a name of this boot of the machine; empty: not known.

    Attributes:
        boot: the argument: a power cut lies between two boots, and none within one.
        boottime: the argument: for periods that begin and end in one process.
        ahead_of_upstream: seconds by which the machine's clock is ahead of upstream's; None where they agree, or upstream
            sent no Date.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = since_boot,
        synchronised: Callable[[], bool] = kernel_synchronised,
        boot: str | None = None,
    ) -> None:
        self.boot = boot_id() if boot is None else boot
        self.ahead_of_upstream: float | None = None
        self.boottime = boottime
        self._wall = wall
        self._synchronised = synchronised
        self._offset = wall() - boottime()
        self._steady_since = boottime()
        self._kernel = False
        self._kernel_until = float("-inf")
        self._corrections = 0
        self._believed: float | None = None
        """The time of day when `boottime` was 0; None while it is not sure."""
        self._floor: float | None = None
        """The earliest possible value of the same, by the last sure time before the start."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds; tests let them pass at once."""
        await asyncio.sleep(seconds)

    # The time of day

    @property
    def sure(self) -> bool:
        """Whether there is evidence for the time of day."""
        self._update()
        return self._believed is not None

    @property
    def corrections(self) -> int:
        """How often the sure time changed: after each change, stored times in the future must be replaced."""
        self._update()
        return self._corrections

    def time(self) -> float:
        """The best known time in seconds since the epoch: for pages, logs and records."""
        boot, wall = self._update()
        if self._believed is not None:
            return self._believed + boot
        return wall if self._floor is None else max(wall, self._floor + boot)

    def stamp(self) -> float:
        """Now, for stored times that a delay or an age depends on: `LATER` while the time is not sure."""
        boot, _ = self._update()
        return LATER if self._believed is None else self._believed + boot

    def at_least(self) -> float:
        """A time that has surely passed: delays end and records are purged by it."""
        boot, wall = self._update()
        if self._believed is not None:
            return self._believed + boot
        return 0.0 if self._floor is None else min(wall, self._floor + boot)

    def age(self, then: float) -> float:
        """Seconds that have surely passed since a time of day; 0 for one in the future."""
        return max(0.0, self.at_least() - then)

    # Evidence

    def restore(self, then: float) -> None:
        """Use the last sure time of an earlier process as a lower bound."""
        self._floor = then - self.boottime()

    def record_upstream_date(self, date: float) -> None:
        """Compare with upstream's time of now, in seconds since the epoch."""
        boot, wall = self._update()
        if abs(wall - date) <= SKEW:
            self.ahead_of_upstream = None
            self._believe(wall - boot)
        else:
            self.ahead_of_upstream = wall - date
            self._steady_since = boot

    def trouble(self) -> str:
        """The fault of the machine's clock, a clause for people; empty if it has none."""
        self._update()
        wall = self._wall()
        says = f"this machine's clock says {minute(wall)}"
        if self._kernel:
            return ""
        if self.ahead_of_upstream is not None:
            side = "ahead of" if self.ahead_of_upstream > 0 else "behind"
            return (
                f"{says}, {timedelta(seconds=round(abs(self.ahead_of_upstream)))} {side} upstream's"
            )
        if wall < BUILT:
            return f"{says}, which is before this program was made"
        if self._believed is None:
            return f"{says}, and nothing has confirmed it yet"
        if abs(self._believed + self.boottime() - wall) > SKEW:
            return f"{says}, and was set there from {minute(self._believed + self.boottime())}"
        return ""

    def _update(self) -> tuple[float, float]:
        """Evaluate the evidence on this machine; gives the time since the boot, and the machine's clock."""
        boot, wall = self.boottime(), self._wall()
        offset = wall - boot
        jumped = abs(offset - self._offset) > SKEW
        self._offset = offset
        if jumped:
            self._steady_since = boot
        if jumped or boot >= self._kernel_until:
            self._kernel = self._synchronised()
            self._kernel_until = boot + KERNEL_FRESH
        if self._believed is not None and abs(offset - self._believed) <= SKEW:
            self._believed = offset
        elif self._kernel or boot - self._steady_since >= DAY:
            self._believe(offset)
        return boot, wall

    def _believe(self, offset: float) -> None:
        if self._believed is None or abs(offset - self._believed) > SKEW:
            self._corrections += 1
        self._believed = offset


CHECK_EVERY = 60.0
WRITE_EVERY = 3600.0
LIMIT = 4096
LOG = structlog.get_logger(__name__)


class ClockFile:
    """Stores the sure time, as a lower bound for the next start.

    Args:
        clock: that has it.
        path: of `clock.json`.
    """

    def __init__(self, clock: Clock, path: Path) -> None:
        self._clock = clock
        self._path = path
        self._corrections = 0
        self._due = 0.0

    async def start(self) -> None:
        """Read the file; without a usable one there is no lower bound."""
        loss = "when the mirror last ran is not known"
        found = await STATE.call(restore, self._path, LIMIT, _read, loss)
        if found is not None:
            self._clock.restore(found)

    async def run(self) -> None:
        """Write the time each hour, and after each correction, while it is sure; until cancelled."""
        while True:
            if self._clock.sure and (
                self._clock.corrections != self._corrections or self._clock.boottime() >= self._due
            ):
                await self.save()
            await self._clock.sleep(CHECK_EVERY)

    async def save(self) -> None:
        """Write the time if it is sure. A failure is only logged: the file is of little importance."""
        if not self._clock.sure:
            return
        self._corrections, self._due = self._clock.corrections, self._clock.boottime() + WRITE_EVERY
        text = json.dumps({"time": self._clock.time()})
        try:
            await STATE.call(replace_file, self._path, text.encode())
        except OSError as error:
            LOG.info("the clock's file cannot be written", why=str(error))


def _read(text: bytes) -> float:
    then = float(json.loads(text)["time"])
    if not 0 <= then < LATER:
        raise ValueError("its time is out of range")
    return then
