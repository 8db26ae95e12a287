"""Batches: what arrives while one write runs goes to disk with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from omaha_mirror.aio.tasks import finish


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
        """Take a chunk. Raises what the write raised."""
        self._chunks.append(chunk)
        self.pending += len(chunk)
        if self._task is None or self._task.done():
            await self.close()
            self._task = asyncio.create_task(self._drain())
        if self.pending >= self._limit:
            await self.close()

    async def close(self) -> None:
        """Return when no write runs any more, cancelled or not. Raises what the write raised."""
        if self._task is not None:
            await finish(self._task)

    async def _drain(self) -> None:
        while self._chunks:
            batch, self._chunks = self._chunks, []
            await self._write(batch)
            self.pending -= sum(map(len, batch))
