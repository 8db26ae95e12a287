"""Clients share the event loop: addresses take turns, deadlines share one timer, and events come a few at a time.

An address with much work waits for its own; another one, with little, does not.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial
from operator import call
from typing import Any, Generic, TypeVar, cast

FEW = 20
"""Connections of one address within a second, and requests, that are handled at once."""
SECOND = 1.0
LONG = 0.001
"""Seconds of a turn of the event loop from which on there is much else to do: then no work of this kind is done in it."""
AT_LEAST = 0.02
"""Seconds after which it is done all the same."""
T = TypeVar("T")
ENDED = 2
"""How many are ended in one turn of the loop: connections that came together reach their deadlines together."""
C = TypeVar("C", bound=Hashable)
EVENTS = 32
"""Ready sockets that are handled in one turn of the loop."""


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
        """Add a piece of work."""
        self._waiting.setdefault(address, deque()).append(work)
        if self._later is None:
            loop = asyncio.get_running_loop()
            self._turn = loop.time()
            self._later = loop.call_soon(self._next)

    def all(self) -> None:
        """Do all that waits now."""
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
    """How often each address has come within a second or two."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._until = 0.0

    def few(self, address: str) -> bool:
        """Count an address; whether it has come `FEW` times at most."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + SECOND
            self._times = Counter({one: n // 2 for one, n in self._times.items() if n > 1})
        self._times[address] += 1
        return self._times[address] <= FEW


class Requests:
    """Requests that can be handled: those of an address that sends many wait until others are handled.

    Without others nothing changes: its requests are handled one after the other.
    """

    def __init__(self) -> None:
        self._turns = ByTurns[Callable[[], None]](call, 1)
        self._recent = Recent()

    def comes(self, address: str, begin: Callable[[], None]) -> bool:
        """Whether a request of an address is to be handled now; else `begin` is called when it is."""
        if self._recent.few(address):
            return True
        self._turns.put(address, begin)
        return False

    async def turn(self, address: str) -> None:
        """Return when a request of an address is to be handled."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.comes(address, partial(_begin, begun)):
            await begun


def _begin(request: asyncio.Future[None]) -> None:
    if not request.done():  # else its client has left
        request.set_result(None)


class Deadlines(Generic[C]):
    """One deadline for each of many, by one timer.

    Args:
        seconds: from the start of each.
        end: called with each whose deadline has passed.

    Attributes:
        none: set while no deadline runs.
    """

    def __init__(self, seconds: float, end: Callable[[C], None]) -> None:
        self.none = asyncio.Event()
        self.none.set()
        self._seconds, self._end = seconds, end
        self._until: OrderedDict[C, float] = OrderedDict()
        self._timer: asyncio.Handle | None = None

    def start(self, one: C) -> None:
        """Start a deadline, or start it again."""
        loop = asyncio.get_running_loop()
        self._until[one] = loop.time() + self._seconds
        self._until.move_to_end(one)
        self.none.clear()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def cancel(self, one: C) -> None:
        """Drop a deadline, if it runs."""
        self._until.pop(one, None)
        if not self._until:
            self.none.set()

    def close(self) -> None:
        """Drop all deadlines."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for _ in range(ENDED):
            first = next(iter(self._until.items()), None)
            if first is None:
                return
            one, until = first
            if until > loop.time():
                self._timer = loop.call_at(until, self._look)
                return
            self.cancel(one)
            self._end(one)
        self._timer = loop.call_soon(self._look)


def fair_loop() -> asyncio.AbstractEventLoop:
    """A loop that takes events a few at a time, oldest first.

    asyncio takes all there are, which may be thousands, and a request needs several rounds: to be accepted, read, handled
    and answered. Each of them would wait for all others' part of the round. The kernel keeps what is ready in order.
    """
    selector = selectors.EpollSelector()
    # There is no other way to say how many: EpollSelector asks for as many events as there are sockets.
    inside = cast(Any, selector)
    inside._selector = _Few(inside._selector)
    return asyncio.SelectorEventLoop(selector)


class _Few:
    """An epoll that gives few events at a time."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.register, self.unregister, self.modify = (
            epoll.register,
            epoll.unregister,
            epoll.modify,
        )
        self.fileno, self.close = epoll.fileno, epoll.close

    def poll(self, timeout: float | None = None, _: int = -1) -> list[tuple[int, int]]:
        """See select.epoll."""
        return self._epoll.poll(timeout, EVENTS)
