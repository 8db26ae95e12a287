"""Work that waits, by whom it is for: who has much waits for its own, and another one, who has little, does not."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

FEW = 20
"""Connections of one address within a second, and requests, that are looked after as they come."""
SECOND = 1.0
LONG = 0.001
"""Seconds that a turn of the event loop takes when there is much else to do: then others come first,"""
AT_LEAST = 0.02
"""but not for longer than so many seconds."""

T = TypeVar("T")


class ByTurns(Generic[T]):
    """Addresses take turns; of one address the first comes first.

    Args:
        do: called with each piece of work.
        at_a_time: how many are done before the loop does something else.
    """

    def __init__(self, do: Callable[[T], None], at_a_time: int) -> None:
        self._do, self._at_a_time = do, at_a_time
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._later: asyncio.Handle | None = None
        self._turn = self._done = 0.0

    def put(self, address: str, work: T) -> None:
        """One more."""
        self._waiting.setdefault(address, deque()).append(work)
        if self._later is None:
            loop = asyncio.get_running_loop()
            self._turn = loop.time()
            self._later = loop.call_soon(self._next)

    def all(self) -> None:
        """Do all now."""
        while self._waiting:
            self._one()

    def _next(self) -> None:
        self._later = None
        loop = asyncio.get_running_loop()
        now, last = loop.time(), self._turn
        self._turn = now
        if now - last < LONG or now - self._done > AT_LEAST:
            self._done = now
            for _ in range(min(self._at_a_time, len(self._waiting))):
                self._one()
        if self._waiting:
            self._later = loop.call_soon(self._next)

    def _one(self) -> None:
        address, waiting = next(iter(self._waiting.items()))
        work = waiting.popleft()
        if waiting:
            self._waiting.move_to_end(address)
        else:
            del self._waiting[address]
        self._do(work)


class Recent:
    """How often each address came lately."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._until = 0.0

    def few(self, address: str) -> bool:
        """Note that it comes; whether it seldom does."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + SECOND
            self._times = Counter({one: n // 2 for one, n in self._times.items() if n > 1})
        self._times[address] += 1
        return self._times[address] <= FEW


class Requests:
    """Those that came whole enough to be handled: an address that asks much asks in what time others leave.

    Nothing is lost by it where there are no others: its requests are handled one after the other as before.
    """

    def __init__(self) -> None:
        self._turns = ByTurns[asyncio.Future[None]](_begin, 1)
        self._recent = Recent()

    async def turn(self, address: str) -> None:
        """Return when a request of an address is to be handled."""
        if not self._recent.few(address):
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.put(address, begun)
            await begun


def _begin(request: asyncio.Future[None]) -> None:
    if not request.done():  # else its client has left
        request.set_result(None)
