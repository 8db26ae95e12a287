"""The time that was last known, on disk: a clock without a battery begins long ago, and it was not earlier than this."""

from __future__ import annotations

import json
from pathlib import Path

import structlog

from omaha_mirror.aio.clock import LATER, Clock
from omaha_mirror.aio.workers import STATE
from omaha_mirror.state_file import replace_file, restore

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
