"""The write-behind queue: recording never waits for the database.

Items wait in memory, within bounds. One task writes them in batches: as soon as `BATCH` items wait, and at the latest
`interval` after the batch before. A killed process loses the items since the beginning of its last complete batch, and
never half a batch. While the database fails, the task tries again, and only the bounds drop items.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import chain

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import DEFECT, keep_running
from omaha_mirror.fleet.backlog import BoundedQueue, Waiting
from omaha_mirror.fleet.database import BadDatabase, Database
from omaha_mirror.fleet.model import Item, tidy
from omaha_mirror.fleet.store import bound, redate, upkeep, write

LOG = structlog.get_logger(__name__)
BATCH = 500
"""Items of a batch: few enough that reducing them does not delay the answers to machines."""
UPKEEP = 300.0
"""Seconds from one census and sweep to the next."""

BAD_DATA = "22"
"""The class of PostgreSQL's error codes for values that no column can hold."""


class FleetRecorder:
    """Accepts items in the event loop's thread at any time, and writes them in another thread.

    Args:
        database: to write to; its tables are created first.
        retention: seconds until history is deleted.
        interval: seconds after which an incomplete batch is written.
        retry: seconds between attempts while the database fails.
        backlog: the queue with its bounds.
        clock: nothing is deleted before it is sure.

    Attributes:
        trouble: why the database fails at the moment; None if it works.
        sent: number of written reports since the start.
        refused: number of reports that the database cannot hold.
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
        self._corrections = 0
        self._migrated = False
        self._kept_up = float("-inf")
        self._arrival = asyncio.Event()
        self._enough = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """The number of waiting reports."""
        return self._backlog.reports

    @property
    def dropped(self) -> int:
        """The number of reports that the bounds dropped."""
        return self._backlog.dropped

    def put(self, item: Item) -> None:
        """Record an item. Never waits, never raises; under overload an older item is dropped."""
        self._backlog.put(tidy(item))
        self._written.clear()
        self._arrival.set()
        if len(self._backlog) >= BATCH:
            self._enough.set()

    def start(self) -> None:
        """Begin to write; wait for a database that is not up yet."""
        self._task = asyncio.create_task(keep_running(self._run, "recording", self._retry))

    async def flush(self) -> None:
        """Return when all items are written."""
        await self._written.wait()

    async def close(self, deadline: float = 5.0) -> None:
        """Write the waiting items, for at most `deadline` seconds; the rest is dropped."""
        for event in (self._closing, self._arrival, self._enough):
            event.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    await self._task
        if lost := self._backlog.reports:
            LOG.warning("the fleet database was too slow at the stop; items are lost", items=lost)
            self._backlog.drop_all()

    async def _run(self) -> None:
        while self._backlog or not self._closing.is_set():
            try:
                await self._work()
            except Exception as error:  # no error ends the recording
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
                break  # a batch costs as much as many items: wait for more
        if not self._backlog:
            self._written.set()
        await self._keep_up()
        self._recovered()

    async def _keep_up(self) -> None:
        """Delete old history when it is time, and when the clock became sure."""
        sure, corrections = self._clock.sure, self._clock.corrections
        if sure and corrections != self._corrections:
            await redate(self._database, self._clock.time())
            self._corrections = corrections
        elif self._clock.boottime() < self._kept_up + UPKEEP:
            return
        if sure:
            await upkeep(self._database, self._clock.time(), self._retention)
        await bound(self._database)
        self._kept_up = self._clock.boottime()

    async def _write(self, batch: Sequence[Waiting]) -> None:
        """Write a batch. If the database cannot store an item, the batch is halved until the item is alone, and the rest written."""
        parts, refusals = [batch], list[Exception]()
        try:
            while parts:
                part = parts[-1]
                try:
                    await write(self._database, [waiting.whole() for waiting in part])
                    self.sent += sum(waiting.count for waiting in part)
                except Exception as error:
                    if _may_pass(error):
                        raise
                    if len(part) > 1:
                        half = len(part) // 2
                        parts[-1:] = part[half:], part[:half]
                        continue
                    refusals.append(error)  # another try would block all later items
                    self.refused += part[0].count
                parts.pop()
        except BaseException:
            self._backlog.give_back(chain.from_iterable(reversed(parts)))
            raise
        finally:
            if refusals:
                LOG.error(
                    "the fleet database cannot store some reports",
                    items=len(refusals),
                    exc_info=refusals[-1],
                )
                refusals.clear()  # their frames are of this call, which keeps the batch

    async def _gather(self) -> None:
        """Wait for an item and then for the rest of its batch, or until upkeep is due."""
        if self._closing.is_set():
            return
        self._arrival.clear()
        self._enough.clear()
        if not self._backlog:
            await _within(UPKEEP, self._arrival)
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
                "the fleet database fails; reports wait in memory",
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
    """Wait for an event, at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _may_pass(error: Exception) -> bool:
    """Whether the error is of the database, and not of the items. asyncpg's own errors about data have only a code."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if isinstance(error, (DataError, IntegrityError)) or state.startswith(BAD_DATA):
        return False
    ours = isinstance(error, (SQLAlchemyError, OSError, BadDatabase))
    return ours or type(error).__module__.partition(".")[0] == "asyncpg"


def _line(error: Exception) -> str:
    """The first line of the driver's message; the rest is SQL and values."""
    text = str(getattr(error, "orig", None) or error)
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}"[:300]
