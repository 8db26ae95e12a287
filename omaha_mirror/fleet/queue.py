"""News that waits to be written, within bounds.

What repeats itself (a ping, an answer of `noupdate`) is dropped before what does not, the oldest first: the machine says
the same again in 45 minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from omaha_mirror.fleet.model import CheckIn, Item, weight

MAX_ITEMS = 100_000
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item in its place in the order of arrival."""

    place: int
    item: Item
    weight: int


class BoundedQueue:
    """A queue that gives back the oldest items in the order of arrival, and never grows beyond its bounds.

    Attributes:
        dropped: items that had to go.
        bytes: about how much memory the waiting ones take.
    """

    def __init__(self, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = 0
        self.bytes = 0
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._arrived = 0
        self._repeating: deque[Waiting] = deque()
        self._singular: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._repeating) + len(self._singular)

    def put(self, item: Item) -> None:
        """Let a tidy item wait."""
        self._arrived += 1
        waiting = Waiting(self._arrived, item, weight(item))
        self._queue(item).append(waiting)
        self.bytes += waiting.weight
        self._keep_bounds()

    def take(self, count: int) -> list[Waiting]:
        """Up to `count` items, the oldest first."""
        batch: list[Waiting] = []
        while len(batch) < count and len(self):
            batch.append(self._pop(self._older()))
        return batch

    def give_back(self, batch: Iterable[Waiting]) -> None:
        """Let the items of the last batch wait again, before all others."""
        for waiting in reversed(list(batch)):
            self._queue(waiting.item).appendleft(waiting)
            self.bytes += waiting.weight
        self._keep_bounds()

    def drop_all(self) -> None:
        """Nobody will ask for them any more."""
        self.dropped += len(self.take(len(self)))

    def _queue(self, item: Item) -> deque[Waiting]:
        repeating = isinstance(item, CheckIn) and item.offered is None
        return self._repeating if repeating else self._singular

    def _older(self) -> deque[Waiting]:
        queues = [queue for queue in (self._repeating, self._singular) if queue]
        return min(queues, key=lambda queue: queue[0].place)

    def _pop(self, queue: deque[Waiting]) -> Waiting:
        waiting = queue.popleft()
        self.bytes -= waiting.weight
        return waiting

    def _keep_bounds(self) -> None:
        while len(self) > self._max_items or self.bytes > self._max_bytes:
            self._pop(self._repeating or self._singular)
            self.dropped += 1
