"""Write-behind of chunks in batches, and the checkpoints that bound what a power cut can lose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from omaha_mirror.aio.tasks import finish, in_worker

LOG = structlog.get_logger(__name__)


class WriteBehind:
    """Joins small chunks into large writes, one at a time, and pushes back when too much is pending.

    Args:
        write: stores a batch of chunks that follow each other.
        limit: bytes that may be pending before `put` waits.
    """

    def __init__(self, write: Callable[[list[bytes]], Awaitable[None]], limit: int) -> None:
        self.pending = 0
        self._write = write
        self._limit = limit
        self._chunks: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, chunk: bytes) -> None:
        """Take a chunk. Raises the error of the last write."""
        self._chunks.append(chunk)
        self.pending += len(chunk)
        if self._task is None or self._task.done():
            await self.close()
            self._task = asyncio.create_task(self._drain())
        if self.pending >= self._limit:
            await self.close()

    async def close(self) -> None:
        """Return when no write runs any more, cancelled or not. Raises its error."""
        if self._task is not None:
            await finish(self._task)

    async def _drain(self) -> None:
        while self._chunks:
            batch, self._chunks = self._chunks, []
            await self._write(batch)
            self.pending -= sum(map(len, batch))


class Checkpoint:
    """Records a draft every `seconds`, and sooner when `count` bytes have come."""

    def __init__(self, seconds: float, count: int) -> None:
        self._seconds = seconds
        self._count = count
        self._unrecorded = 0
        self._enough = asyncio.Event()

    def note(self, count: int) -> None:
        """Note that `count` more bytes were written."""
        self._unrecorded += count
        if self._unrecorded >= self._count:
            self._enough.set()

    async def run(self, record: Callable[[], None]) -> None:
        """Run until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._enough.wait()
            self._enough.clear()
            if self._unrecorded:
                self._unrecorded = 0
                await sync(record)


async def sync(record: Callable[[], None]) -> None:
    """Record a draft. An error, of the disk or another, ends no fill: less survives a power cut."""
    try:
        await in_worker(record)
    except OSError:
        pass
    except Exception:
        LOG.exception("cannot record the bytes that were fetched")
