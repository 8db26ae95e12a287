"""Writes the catalog's file, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.aio.workers import Workers
from omaha_mirror.catalog.state import State, recover, save

LOG = structlog.get_logger(__name__)


class Writer:
    """One thread: what is saved later is written later, also when whoever waited was cancelled.

    Args:
        path: of the file.
        state: gives what it is to hold.
    """

    def __init__(self, path: Path, state: Callable[[], State]) -> None:
        self._path = path
        self._state = state
        self._disk = Workers(1, "the catalog's file")
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self) -> State:
        """What the file holds. A damaged one is put aside, and said."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, recover, self._path)

    async def write(self) -> None:
        """Write the file. Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, save, self._path, self._state())

    async def save(self) -> None:
        """Write the file. A full disk stops no update: it is said, and tried again with the next answer."""
        try:
            await self.write()
        except OSError as error:
            LOG.error("what is offered will not survive a restart", why=str(error))

    def save_behind(self) -> None:
        """Begin to write the file; nobody waits."""
        task = asyncio.create_task(self.save())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Write it a last time."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.save()
        self._disk.shutdown()
