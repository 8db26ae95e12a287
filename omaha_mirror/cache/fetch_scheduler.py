"""Shares the bandwidth to upstream: how fast it is used, and by how many fills at once.

Bytes go first to fills with waiting readers, and among equals to the first that asked; fills take turns (`turns`, pure).
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

CROWD = 10.0
"""Cost of each other running fill of the same client, or release."""
BYTES = 1_000_000
"""Bytes still to be fetched that cost 1."""
LARGE = 30.0
"""Their highest cost."""
AGE = 2.0
"""Gain of a second in which none of the fill's clients had a turn."""
OWN_AGE = 0.5
"""Gain of a second in which the fill itself had none."""
OLD = 60.0
"""Seconds of the latter that count."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What decides the turn of a fill among others of its priority.

    Attributes:
        clients: the names of its readers.
        release: the folder of its URL.
        left: bytes that are still to be fetched.
    """

    clients: frozenset[str] = frozenset()
    release: str = ""
    left: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A fill as `turns` sees it.

    Attributes:
        priority: the lower the more urgent.
        claim: see there.
        running: whether it has a place.
        seconds: how long it has its place, or waits for one.
        deprived: seconds in which none of its clients had a turn, where it waits.
    """

    priority: int
    claim: Claim
    running: bool
    seconds: float
    deprived: float = 0.0


def turns(standings: Sequence[Standing], places: int, slice_seconds: float) -> set[int]:
    """The indexes of those that may run now."""
    running = {i for i, standing in enumerate(standings) if standing.running}
    before = frozenset(running)
    while waiting := [i for i in range(len(standings)) if i not in running | before]:
        best = min(waiting, key=lambda i: _rank(standings, i, running))
        if len(running) >= places:
            victim = _victim(standings, best, running & before, running, slice_seconds)
            if victim is None:
                break
            running.remove(victim)
        running.add(best)
    return running


def order(standings: Sequence[Standing]) -> list[int]:
    """The indexes of those that wait, the next one first."""
    running = {i for i, standing in enumerate(standings) if standing.running}
    waiting = [i for i in range(len(standings)) if i not in running]
    return sorted(waiting, key=lambda i: _rank(standings, i, running))


def _victim(
    standings: Sequence[Standing],
    best: int,
    candidates: Collection[int],
    running: set[int],
    slice_seconds: float,
) -> int | None:
    """The index of the one that gives its place to `best`, or None."""
    urgent = standings[best].priority
    found = [
        i
        for i in candidates
        if standings[i].priority > urgent
        or (standings[i].priority == urgent and standings[i].seconds >= slice_seconds)
    ]
    if not found:
        return None
    worst = max(found, key=lambda i: _rank(standings, i, running))
    better = _rank(standings, best, running - {worst}) < _rank(standings, worst, running)
    return worst if better else None


def _rank(standings: Sequence[Standing], i: int, running: set[int]) -> tuple[int, float]:
    """The lower the sooner."""
    standing, claim = standings[i], standings[i].claim
    others = [standings[j].claim for j in running if j != i]
    crowd = min((sum(c in other.clients for other in others) for c in claim.clients), default=0)
    crowd += sum(other.release == claim.release != "" for other in others)
    cost = CROWD * crowd + min(LARGE, claim.left / BYTES)
    if not standing.running:
        cost -= AGE * min(standing.seconds, standing.deprived)
        cost -= OWN_AGE * min(standing.seconds, OLD)
    return standing.priority, cost


MANY = 50
"""With more fills than this, turns are not decided anew whenever a reader comes or leaves."""
LOOKS = 5
"""How often in a slice turns are decided anew."""
BURST_SECONDS = 0.05
"""Unused time that counts: after it, this much may be fetched at once."""


class Priority(IntEnum):
    """A fill with readers, one without readers yet, one of a blob that was proven and turned out wrong."""

    WAITED_FOR = 0
    PREFETCH = 1
    REPAIR = 2


class FetchScheduler:
    """Shares the bandwidth between the fills.

    Args:
        rate: bytes a second for everything together; None for no limit.
        max_fills: fills at once.
        slice_seconds: how long a fill keeps its place at least, while others as urgent wait.
    """

    def __init__(
        self, rate: float | None = None, max_fills: int = 3, slice_seconds: float = 5.0
    ) -> None:
        self._rate = rate
        self._max_fills = max_fills
        self._free_at = 0.0
        self._arrivals = 0
        self._takers: list[tuple[Priority, int, int, asyncio.Future[None]]] = []
        self._granting: asyncio.TimerHandle | None = None
        self._slice_seconds = slice_seconds
        self._fills: dict[object, _Entry] = {}
        self._served: dict[str, float] = {}
        self._turning: asyncio.TimerHandle | None = None

    def change(self, rate: float | None, max_fills: int) -> None:
        """Apply other limits from now on; running fills go on."""
        self._rate, self._max_fills = rate, max_fills
        self._free_at = 0.0
        self._grant()
        self._admit()

    # Bytes

    async def take(self, count: int, priority: Priority) -> None:
        """Return when `count` bytes may have been fetched."""
        if self._rate is None:
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._takers, (priority, self._arrivals, count, granted))
        if self._granting is None:
            self._grant()
        await granted

    def _grant(self) -> None:
        """Grant bytes as the rate allows, the most urgent first, and again when the rate allows more."""
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
    async def fill(
        self, fill: object, priority: Callable[[], Priority], claim: Callable[[], Claim] = Claim
    ) -> AsyncIterator[None]:
        """Take turns with the other fills; waits for its first turn."""
        entry = self._fills[fill] = _Entry(priority, claim, asyncio.get_running_loop().time())
        self._admit()
        try:
            await entry.has_turn.wait()
            yield
        finally:
            del self._fills[fill]
            now = asyncio.get_running_loop().time()
            self._served.update(dict.fromkeys(claim().clients, now))
            self._admit()

    def has_turn(self, fill: object) -> bool:
        """Whether a fill may take bytes now."""
        entry = self._fills.get(fill)
        return entry is None or entry.has_turn.is_set()

    async def turn(self, fill: object) -> None:
        """Return when a fill may take bytes."""
        if (entry := self._fills.get(fill)) is not None:
            await entry.has_turn.wait()

    def positions(self) -> dict[object, int]:
        """The places in the queue, from 1, of those that wait."""
        entries = list(self._fills)
        return {entries[i]: place for place, i in enumerate(order(self._standings()), 1)}

    def look_again(self) -> None:
        """Decide turns anew, as a reader came or left; with many fills, that waits for the next regular time."""
        if self._turning is None or len(self._fills) <= MANY:
            self._admit()

    def _standings(self) -> list[Standing]:
        now = asyncio.get_running_loop().time()
        claims = [(entry, entry.claim()) for entry in self._fills.values()]
        for entry, claim in claims:
            if entry.has_turn.is_set():
                self._served.update(dict.fromkeys(claim.clients, now))
        return [
            Standing(
                entry.priority(),
                claim,
                entry.has_turn.is_set(),
                now - entry.since,
                max((now - self._served.get(c, entry.since) for c in claim.clients), default=0.0),
            )
            for entry, claim in claims
        ]

    def _admit(self) -> None:
        """Decide whose turn it is, and again later while a fill waits."""
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None
        waiting = [entry.since for entry in self._fills.values() if not entry.has_turn.is_set()]
        # Turns that ended before the first fill began to wait do not matter for which waits longest.
        since = min(waiting, default=math.inf)
        self._served = {client: last for client, last in self._served.items() if last > since}
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        chosen = turns(self._standings(), self._max_fills, self._slice_seconds)
        for i, entry in enumerate(self._fills.values()):
            if (i in chosen) != entry.has_turn.is_set():
                (entry.has_turn.set if i in chosen else entry.has_turn.clear)()
                entry.since = loop.time()
        if len(chosen) < len(self._fills):
            self._turning = loop.call_later(self._slice_seconds / LOOKS, self._admit)


class _Entry:
    """A fill that takes turns, and since when it has its turn, or waits for one."""

    def __init__(
        self, priority: Callable[[], Priority], claim: Callable[[], Claim], since: float
    ) -> None:
        self.priority = priority
        self.claim = claim
        self.since = since
        self.has_turn = asyncio.Event()
