"""Simultaneous requests to upstream: equal ones are collapsed, one at a time for each machine, and fair by address.

One address may have all slots while no other one waits; some spare slots are for addresses without any.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedRequests(Generic[T]):
    """Collapses equal requests."""

    def __init__(self) -> None:
        self._asking: dict[Hashable, _Shared[T]] = {}

    async def ask(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a request, which is cancelled with its last waiting caller. Raises what `begin` raises.

        Args:
            key: equal for equal requests.
            begin: sends the request.
        """
        shared = self._asking.get(key)
        if shared is None or shared.abandoned:
            shared = self._asking[key] = _Shared(asyncio.create_task(begin()))
        try:
            return await shared.result()
        finally:
            if self._asking.get(key) is shared and (shared.abandoned or shared.task.done()):
                del self._asking[key]


class _Shared(Generic[T]):
    """A request, and the number of callers that wait for its answer.

    Attributes:
        task: sends it.
        abandoned: whether the last caller was cancelled: an equal request is then sent anew.
    """

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.abandoned = False
        self._waiting = 0

    async def result(self) -> T:
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self.abandoned = True
                self.task.cancel()
                await asyncio.wait([self.task])


AT_ONCE = 32
SPARE = 8
"""Further slots, for addresses without any."""


class Slots:
    """A semaphore that is fair by address."""

    def __init__(self, at_once: int = AT_ONCE, spare: int = SPARE) -> None:
        self._at_once = at_once
        self._spare = spare
        self._held: Counter[str] = Counter()
        self._used = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def hold(self, address: str) -> AsyncIterator[None]:
        """Hold a slot within this context. The next slot goes to the address with the fewest."""
        if self._free(address):
            self._take(address)
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(address, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(address)
                raise
        try:
            yield
        finally:
            self._give_back(address)

    def _free(self, address: str) -> bool:
        places = self._at_once + (0 if self._held[address] else self._spare)
        return self._used < places

    def _take(self, address: str) -> None:
        self._held[address] += 1
        self._used += 1

    def _give_back(self, address: str) -> None:
        self._held[address] -= 1
        self._used -= 1
        if not self._held[address]:
            del self._held[address]
        while (following := self._next()) is not None:
            self._take(following)
            self._waiting[following].popleft().set_result(None)

    def _next(self) -> str | None:
        """The address that gets the next slot; None if none is free or wanted."""
        for address, turns in list(self._waiting.items()):
            while turns and turns[0].done():
                turns.popleft()
            if not turns:
                del self._waiting[address]
        if not self._waiting:
            return None
        fewest = min(self._waiting, key=lambda address: self._held[address])
        return fewest if self._free(fewest) else None


class OneByOne:
    """A lock for each name."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, name: Hashable) -> AsyncIterator[None]:
        """Hold the lock of a name within this context."""
        lock, count = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            lock, count = self._locks.pop(name)
            if count > 1:
                self._locks[name] = lock, count - 1
