"""Requests to upstream under way: equal ones go up once, one at a time for each machine, and fairly by address.

One address may take all places while nobody else asks; a few more are for addresses that have none.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedRequests(Generic[T]):
    """The questions under way."""

    def __init__(self) -> None:
        self._asking: dict[Hashable, _Shared[T]] = {}

    async def ask(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question, cancelled with the last caller that waits. Raises what `begin` raises.

        Args:
            key: tells the question from others.
            begin: asks it.
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
    """A question, and how many wait for its answer.

    Attributes:
        task: asks it.
        abandoned: whether nobody waits any more: the same request is then sent anew.
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
"""Places beyond those, for addresses that have none."""


class Slots:
    """Gives places."""

    def __init__(self, at_once: int = AT_ONCE, spare: int = SPARE) -> None:
        self._at_once = at_once
        self._spare = spare
        self._held: Counter[str] = Counter()
        self._used = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def hold(self, address: str) -> AsyncIterator[None]:
        """Wait for a place, and have it while this is open. The next goes to who has fewest."""
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
        """Who gets a place, if there is one."""
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
    """Lets who has the same name wait for each other."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, name: Hashable) -> AsyncIterator[None]:
        """Be the only one of that name while this is open."""
        lock, count = self._locks.get(name) or (asyncio.Lock(), 0)
        self._locks[name] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            lock, count = self._locks.pop(name)
            if count > 1:
                self._locks[name] = lock, count - 1
