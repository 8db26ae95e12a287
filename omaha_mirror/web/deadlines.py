"""One and the same time for each of many, and one timer for all of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

AT_A_TIME = 2
"""How many are ended before the loop does something else: who came together runs out of time together."""

C = TypeVar("C", bound=Hashable)


class Deadlines(Generic[C]):
    """Who has time until when.

    Args:
        seconds: for each one.
        end: called with who had no more.

    Attributes:
        none: set while nobody is waited for.
    """

    def __init__(self, seconds: float, end: Callable[[C], None]) -> None:
        self.none = asyncio.Event()
        self.none.set()
        self._seconds, self._end = seconds, end
        self._until: OrderedDict[C, float] = OrderedDict()
        self._timer: asyncio.Handle | None = None

    def start(self, one: C) -> None:
        """Its time begins, again if it had begun."""
        loop = asyncio.get_running_loop()
        self._until[one] = loop.time() + self._seconds
        self._until.move_to_end(one)
        self.none.clear()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def cancel(self, one: C) -> None:
        """It is not waited for any more, if it was."""
        self._until.pop(one, None)
        if not self._until:
            self.none.set()

    def close(self) -> None:
        """Nobody is ended any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for _ in range(AT_A_TIME):
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
