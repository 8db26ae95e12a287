"""The write-behind queue: whoever records waits for nothing, whatever the database does.

News waits in memory, within bounds, and is written in batches by one task: as soon as `BATCH` items wait, and at the
latest `interval` after the batch before. So a process that is killed loses what came since its last finished batch was
begun, and no batch by half. While the database fails, nothing but the bounds makes news go, and it is tried again and
again.

What repeats itself (a ping, an answer of `noupdate`) is dropped before what does not, the oldest first: the machine says
the same again in 45 minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import DEFECT, keep_running
from omaha_mirror.fleet.database import BadDatabase, Database
from omaha_mirror.fleet.model import CheckIn, Item, tidy, weight
from omaha_mirror.fleet.store import bound, redate, upkeep, write

LOG = structlog.get_logger(__name__)
BATCH = 200
"""Items written at once: few enough that making them up does not hold up the answers to machines."""
UPKEEP = 300.0
"""Seconds from one census and sweep to the next."""

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


class FleetRecorder:
    """Takes news at any time, from the event loop's thread, and writes it in its own.

    Args:
        database: where to; its tables are made first.
        retention: seconds that history is kept.
        interval: seconds in which news gathers to a batch, where it is no whole one before.
        retry: seconds between attempts while the database fails.
        backlog: what waits, with its bounds.
        clock: tells the time; nothing is purged before it is sure.

    Attributes:
        trouble: why nothing can be written at the moment; None when all is well.
        sent: items that were written, since the start.
        refused: items that no database can hold.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: float = 90 * 86400.0,
        interval: float = 0.25,
        retry: float = 2.0,
        backlog: BoundedQueue | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.trouble: str | None = None
        self.sent = self.refused = 0
        self._database = database
        self._retention = retention
        self._interval = interval
        self._retry = retry
        self._backlog = BoundedQueue() if backlog is None else backlog
        self._clock = clock or Clock()
        self._turns = 0
        self._migrated = False
        self._kept_up = float("-inf")
        self._news = asyncio.Event()
        self._enough = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Items that wait."""
        return len(self._backlog)

    @property
    def dropped(self) -> int:
        """Items that were never written because too many waited."""
        return self._backlog.dropped

    def put(self, item: Item) -> None:
        """Record something. Never waits, never raises; under overload something older is dropped."""
        self._backlog.put(tidy(item))
        self._written.clear()
        self._news.set()
        if len(self._backlog) >= BATCH:
            self._enough.set()

    def start(self) -> None:
        """Begin to write; a database that is not there yet is waited for."""
        self._task = asyncio.create_task(keep_running(self._run, "recording", self._retry))

    async def flush(self) -> None:
        """Return when all that was put is written."""
        await self._written.wait()

    async def close(self, deadline: float = 5.0) -> None:
        """Write what waits, for at most `deadline` seconds; what is left then counts as dropped."""
        for event in (self._closing, self._news, self._enough):
            event.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    await self._task
        if lost := len(self._backlog):
            LOG.warning("the fleet database did not take all in time; the rest is lost", items=lost)
            self._backlog.drop_all()

    async def _run(self) -> None:
        while self._backlog or not self._closing.is_set():
            try:
                await self._work()
            except Exception as error:  # nothing may end the recording
                self._failed(error)
                if await self._database.mend(error):
                    self._migrated = False
                await self._rest_after_failure()
            else:
                await self._gather()

    async def _work(self) -> None:
        if not self._migrated:
            await self._database.migrate()
            self._migrated = True
        while batch := self._backlog.take(BATCH):
            await self._write(batch)
            if len(batch) < BATCH:
                break  # what came meanwhile is too little: a batch costs as much as eighty items
        if not self._backlog:
            self._written.set()
        await self._keep_up()
        self._recovered()

    async def _keep_up(self) -> None:
        """Sweep when it is time, and when the clock became sure."""
        sure, turns = self._clock.sure, self._clock.turns
        if sure and turns != self._turns:
            await redate(self._database, self._clock.time())
            self._turns = turns
        elif self._clock.boottime() < self._kept_up + UPKEEP:
            return
        if sure:
            await upkeep(self._database, self._clock.time(), self._retention)
        await bound(self._database)
        self._kept_up = self._clock.boottime()

    async def _write(self, batch: Sequence[Waiting]) -> None:
        try:
            await write(self._database, [waiting.item for waiting in batch])
            self.sent += len(batch)
        except BaseException as error:
            if not isinstance(error, Exception) or _may_pass(error):
                self._backlog.give_back(batch)
                raise
            # Trying again would block all that comes after them.
            LOG.exception("the fleet database cannot hold what was reported", items=len(batch))
            self.refused += len(batch)

    async def _gather(self) -> None:
        """Wait for news and then for what comes with it, or until upkeep is due."""
        if self._closing.is_set():
            return
        self._news.clear()
        self._enough.clear()
        if not self._backlog:
            await _within(UPKEEP, self._news)
        if len(self._backlog) < BATCH:
            await _within(self._interval, self._enough)

    async def _rest_after_failure(self) -> None:
        if self._closing.is_set():
            await asyncio.sleep(self._retry)
        else:
            await _within(self._retry, self._closing)

    def _failed(self, error: Exception) -> None:
        foreseen = _may_pass(error)
        trouble = _line(error) if foreseen else DEFECT
        if self.trouble is None or (not foreseen and self.trouble != DEFECT):
            LOG.warning(
                "the fleet database fails; what is reported waits in memory",
                database=self._database.where,
                why=trouble,
                exc_info=None if foreseen else error,
            )
        self.trouble = trouble

    def _recovered(self) -> None:
        if self.trouble is not None:
            LOG.warning("the fleet database works again")
        self.trouble = None


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but no longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _may_pass(error: Exception) -> bool:
    """Whether it is the trouble of a database, not of what is written to it; asyncpg has errors of its own."""
    if isinstance(error, (DataError, IntegrityError)):
        return False
    ours = isinstance(error, (SQLAlchemyError, OSError, BadDatabase))
    return ours or type(error).__module__.partition(".")[0] == "asyncpg"


def _line(error: Exception) -> str:
    """The first line of what the driver says; the rest is SQL and values."""
    text = str(getattr(error, "orig", None) or error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}"[:300]
