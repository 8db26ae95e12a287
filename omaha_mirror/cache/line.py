"""The line to the outside is scarce: how fast it is used, and by how many fills at once.

Who has somebody waiting goes first; among equals the first come.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

BURST_SECONDS = 0.05
"""How much unused time counts: a line that was idle may send this much at once."""


class Priority(IntEnum):
    """Who goes first."""

    WAITED_FOR = 0
    PREFETCH = 1
    REPAIR = 2


class Line:
    """Shares the line between the fills.

    Args:
        rate: bytes a second for everything together; None for no limit.
        max_fills: fills at once.
    """

    def __init__(self, rate: float | None = None, max_fills: int = 3) -> None:
        self._rate = rate
        self._max_fills = max_fills
        self._free_at = 0.0
        self._arrivals = 0
        self._takers: list[tuple[Priority, int, int, asyncio.Future[None]]] = []
        self._granting: asyncio.TimerHandle | None = None
        self._running: dict[object, Callable[[], Priority]] = {}
        self._queued: dict[object, tuple[asyncio.Future[None], Callable[[], Priority]]] = {}

    def change(self, rate: float | None, max_fills: int) -> None:
        """Apply other limits from now on; what runs goes on."""
        self._rate, self._max_fills = rate, max_fills
        self._free_at = 0.0
        self._grant()
        self._admit()

    # Bytes

    async def take(self, count: int, priority: Priority) -> None:
        """Return when `count` bytes may have come over the line."""
        if self._rate is None:
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._takers, (priority, self._arrivals, count, granted))
        if self._granting is None:
            self._grant()
        await granted

    def _grant(self) -> None:
        """Let takers go as the rate allows, the most urgent first, and come back when the line is free again."""
        if self._granting is not None:
            self._granting.cancel()
            self._granting = None
        loop = asyncio.get_running_loop()
        while self._takers:
            now = loop.time()
            if self._rate is not None and self._free_at > now:
                self._granting = loop.call_at(self._free_at, self._grant)
                return
            _, _, count, granted = heapq.heappop(self._takers)
            if granted.done():
                continue
            if self._rate is not None:
                self._free_at = max(self._free_at, now - BURST_SECONDS) + count / self._rate
            granted.set_result(None)

    # Fills

    @asynccontextmanager
    async def fill(self, who: object, priority: Callable[[], Priority]) -> AsyncIterator[None]:
        """Hold one of the places for fills; waits in the queue until there is one."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queued[who] = (admitted, priority)
        self._admit()
        try:
            await admitted
            yield
        finally:
            self._queued.pop(who, None)
            self._running.pop(who, None)
            self._admit()

    def position(self, who: object) -> int | None:
        """Place of a fill in the queue, from 1; None when it is not waiting."""
        order = self._order()
        return order.index(who) + 1 if who in order else None

    def _order(self) -> list[object]:
        return sorted(self._queued, key=lambda who: self._queued[who][1]())

    def look_again(self) -> None:
        """Somebody began or ceased to wait for a fill."""
        self._admit()

    def _admit(self) -> None:
        """Fill the places. Who is waited for finds those taken that nobody waits for any more as good as free."""
        for who in self._order():
            admitted, priority = self._queued[who]
            rivals = [other for other in self._running.values() if other() <= priority()]
            if len(rivals) >= self._max_fills:
                return
            del self._queued[who]
            self._running[who] = priority
            if not admitted.done():
                admitted.set_result(None)
