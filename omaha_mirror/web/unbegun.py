"""Requests for a package of which no byte is here yet: they are let go when the listener stops.

What they wait for need not come in the time that responses under way are given. Who has got nothing has nothing to lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from omaha_mirror.cache.errors import Stopping

WORDS = "the mirror is stopping"


class Unbegun:
    """Those of one listener."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    @asynccontextmanager
    async def waits(self) -> AsyncIterator[None]:
        """Wait for what a package needs to begin. Raises Stopping."""
        if self._over:
            raise Stopping(WORDS)
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waiting.add(wait)
                yield
        except TimeoutError:
            if wait.expired():
                raise Stopping(WORDS) from None
            raise
        finally:
            self._waiting.discard(wait)

    def let_go(self) -> None:
        """All of them, now; nobody waits any more from now on."""
        self._over = True
        now = asyncio.get_running_loop().time()
        while self._waiting:
            self._waiting.pop().reschedule(now)
