"""What waits to be written, within bounds.

A check that says the same as the newest waiting item of its machine is counted with it. Items that repeat (a ping, an
answer of `noupdate`) are dropped first, the oldest of them before others: the machine sends the same again in 45 minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from omaha_mirror.fleet.model import CheckIn, Item, Transfer, facts, weight

MAX_ITEMS = 100_000
MAX_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Waiting:
    """An item that waits.

    Attributes:
        place: its number in the order of arrival.
        machine: that it is of; None for a transfer.
        count: of the reports that it stands for.
        last: the time of the last of them.
    """

    place: int
    item: Item
    machine: tuple[str, str] | None
    weight: int
    count: int
    last: float

    def whole(self) -> Item:
        """The item with its repetitions."""
        if self.count == 1 or not isinstance(self.item, CheckIn):
            return self.item
        return replace(self.item, time=self.last, first=self.item.time, count=self.count)


class BoundedQueue:
    """A queue in the order of arrival that drops items beyond its bounds.

    Attributes:
        dropped: number of reports whose items were dropped.
        reports: number of reports that the waiting items stand for.
        bytes: approximate memory of the waiting items.
    """

    def __init__(self, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = self.reports = self.bytes = 0
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._arrived = 0
        self._repeating: deque[Waiting] = deque()
        self._singular: deque[Waiting] = deque()
        self._newest: dict[tuple[str, str], Waiting] = {}

    def __len__(self) -> int:
        return len(self._repeating) + len(self._singular)

    def put(self, item: Item) -> None:
        """Add a tidy item, or count it with the newest one of its machine where that says the same."""
        self.reports += 1
        machine = None if isinstance(item, Transfer) else (item.machineid, item.app_id)
        newest = self._newest.get(machine) if machine is not None else None
        if newest is not None and _same(newest.item, item):
            newest.count += 1
            newest.last = max(newest.last, item.time)
            return
        self._arrived += 1
        waiting = Waiting(self._arrived, item, machine, weight(item), 1, item.time)
        self._queue(item).append(waiting)
        self.bytes += waiting.weight
        if machine is not None:
            self._newest[machine] = waiting
        if self.bytes > self._max_bytes or len(self) > self._max_items:
            self._keep_bounds()

    def take(self, count: int) -> list[Waiting]:
        """Up to `count` items, the oldest first."""
        batch: list[Waiting] = []
        while len(batch) < count and (queue := self._older()):
            batch.append(self._pop(queue))
        return batch

    def give_back(self, batch: Iterable[Waiting]) -> None:
        """Put the items of the last batch back before all others."""
        for waiting in reversed(list(batch)):
            self._queue(waiting.item).appendleft(waiting)
            self.bytes += waiting.weight
            self.reports += waiting.count
        self._keep_bounds()

    def drop_all(self) -> None:
        """Drop all items."""
        self.dropped += self.reports
        self.take(len(self))

    def _queue(self, item: Item) -> deque[Waiting]:
        repeating = isinstance(item, CheckIn) and item.offered is None
        return self._repeating if repeating else self._singular

    def _older(self) -> deque[Waiting]:
        one, other = self._repeating, self._singular
        if one and other:
            return one if one[0].place < other[0].place else other
        return one or other

    def _pop(self, queue: deque[Waiting]) -> Waiting:
        waiting = queue.popleft()
        self.bytes -= waiting.weight
        self.reports -= waiting.count
        if waiting.machine is not None and self._newest.get(waiting.machine) is waiting:
            del self._newest[waiting.machine]
        return waiting

    def _keep_bounds(self) -> None:
        while len(self) > self._max_items or self.bytes > self._max_bytes:
            self.dropped += self._pop(self._repeating or self._singular).count


def _same(one: Item, other: Item) -> bool:
    """Whether both are check-ins that differ in nothing but their time."""
    if isinstance(one, CheckIn) and isinstance(other, CheckIn):
        return facts(one) == facts(other)
    return False
