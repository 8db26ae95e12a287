"""Turns for questions about possibly made-up names of tracks and files: a token bucket with a fair queue.

`AT_ONCE` questions go up at once, and then one each `EVERY` seconds. The next turn goes to the client with the fewest
waiting questions, and to its newest one, so that a flood of one client delays no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import log_failure

AT_ONCE = 64
"""Turns in the full bucket."""
EVERY = 10.0
"""Seconds until one more turn is free."""
FEW = 8
"""Unknown names of one client, up to which it waits for answers while turns are scarce."""


Key = TypeVar("Key", bound=Hashable)


def surplus(holders: Mapping[Key, str]) -> Key:
    """The key to remove where the limit is exceeded: the oldest one of the client with the most.

    Args:
        holders: the client of each key, oldest first; not empty.
    """
    counts = Counter(holders.values())
    return max(holders, key=lambda key: counts[holders[key]])


class Turns:
    """The bucket and its queue.

    Args:
        clock: tells the time.
        at_once: see `AT_ONCE`.
        every: see `EVERY`.
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
        """Whether a question would wait for its turn."""
        self._refill()
        return bool(self._waiting) or self._left < 1

    def free(self) -> bool:
        """Take a turn if one is free; whether it was."""
        return not self._waiting and self._taken()

    async def take(self, client: str) -> None:
        """Wait for a turn.

        Args:
            client: the address of the asking machine; empty for the mirror itself.
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
        """Give no more turns; the owner cancels the waiting tasks."""
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
