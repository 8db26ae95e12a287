"""Turns for questions about names that clients make us ask: of tracks and of files, which may be made up.

So many are asked at once, and after that one each so often, however many names there are. Nobody's question waits behind a
flood: next comes who waits for least, and of its own questions the newest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import log_failure

AT_ONCE = 64
"""Turns that are there when nobody asked for long."""
EVERY = 10.0
"""Seconds from one turn to the next after those."""
FEW = 8
"""Unknown names that one client may have named and still wait for the answer, while turns are scarce."""


Key = TypeVar("Key", bound=Hashable)


def surplus(holders: Mapping[Key, str]) -> Key:
    """What makes room where there is none: the oldest of whoever holds most.

    Args:
        holders: who holds what, by what it is, oldest first; not empty.
    """
    counts = Counter(holders.values())
    return max(holders, key=lambda key: counts[holders[key]])


class Turns:
    """Gives turns.

    Args:
        clock: tells the time.
        at_once: turns that are there when nobody asked for long.
        every: seconds from one turn to the next after those.
    """

    def __init__(self, clock: Clock, at_once: int = AT_ONCE, every: float = EVERY) -> None:
        self._clock = clock
        self._at_once = at_once
        self._every = every
        self._left = float(at_once)
        self._since = clock.boottime()
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._giving: asyncio.Task[None] | None = None

    @property
    def scarce(self) -> bool:
        """Whether a question would have to wait for its turn."""
        self._refill()
        return bool(self._waiting) or self._left < 1

    def free(self) -> bool:
        """Take a turn, if there is one that nobody waits for."""
        return not self._waiting and self._taken()

    async def take(self, client: str) -> None:
        """Wait for a turn.

        Args:
            client: who asked: an address, or nothing for the mirror itself.
        """
        if self.free():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = client
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give())
            self._giving.add_done_callback(log_failure)
        try:
            await turn
        finally:
            self._waiting.pop(turn, None)

    async def close(self) -> None:
        """Give no more turns; who waits is the owner's to cancel."""
        if self._giving is not None:
            self._giving.cancel()
            await asyncio.wait([self._giving])

    async def _give(self) -> None:
        while self._waiting:
            if not self._taken():
                await self._clock.sleep((1 - self._left) * self._every)
                continue
            counts = Counter(self._waiting.values())
            newest_first = reversed(self._waiting)
            turn = min(newest_first, key=lambda turn: counts[self._waiting[turn]])
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(None)
            await asyncio.sleep(0)

    def _refill(self) -> None:
        now = self._clock.boottime()
        self._left = min(self._at_once, self._left + (now - self._since) / self._every)
        self._since = now

    def _taken(self) -> bool:
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True
