"""Requests that end when their listener stops, as nothing need come in time of what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from omaha_mirror.cache.errors import Stopping

WORDS = "the mirror is stopping"


class PendingRequests:
    """Requests of one listener that end when it stops: for a package of which no byte has arrived, or refused ones.

    What they wait for need not come in the time that responses under way are given, and their clients lose nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, None] = {}
        self._over = False

    @asynccontextmanager
    async def waits(self) -> AsyncIterator[None]:
        """Wait for what an answer needs to begin. Raises Stopping."""
        if self._over:
            raise Stopping(WORDS)
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waiting[wait] = None
                yield
        except TimeoutError:
            if wait.expired():
                raise Stopping(WORDS) from None
            raise
        finally:
            self._waiting.pop(wait, None)

    def let_go(self) -> None:
        """End all of them now, and each later one at once."""
        self._over = True
        now = asyncio.get_running_loop().time()
        while self._waiting:
            self._waiting.popitem()[0].reschedule(now)
