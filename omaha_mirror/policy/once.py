"""Equal questions that are asked at the same time go up once, and all who ask get the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """The questions under way."""

    def __init__(self) -> None:
        self._asking: dict[Hashable, _Shared[T]] = {}

    async def ask(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question. Who leaves last takes it along. Raises what `begin` raises.

        Args:
            key: tells the question from others.
            begin: asks it.
        """
        shared = self._asking.get(key)
        if shared is None or shared.left:
            shared = self._asking[key] = _Shared(asyncio.create_task(begin()))
        try:
            return await shared.result()
        finally:
            if self._asking.get(key) is shared and (shared.left or shared.task.done()):
                del self._asking[key]


class _Shared(Generic[T]):
    """A question, and how many wait for its answer.

    Attributes:
        task: asks it.
        left: whether nobody waits any more: who asks the same then asks anew.
    """

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.left = False
        self._waiting = 0

    async def result(self) -> T:
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self.left = True
                self.task.cancel()
                await asyncio.wait([self.task])
