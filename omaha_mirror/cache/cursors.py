"""The cursors of one fill, each one upstream connection: `plan`, a pure function, decides which run, `Cursors` runs them.

A cursor fills a hole from its start on and stops where filled bytes begin.

1. Where a reader waits and no cursor will come by soon, one is opened there. "Soon" is two seconds at the present
   rate, and never more than 16 MiB.
2. When no reader waits for anything that is not on its way, one cursor fills the first hole: a fill finishes by itself.
3. There are at most `limit` cursors. Where a waiting reader needs one and there is none left, a cursor that no reader
   waits for makes room; the new one is opened when the old one has gone.

`Cursors` is idle until the first `replan`; then `replan` and `reap` by turns, from the fill's own task; after `stop` idle
again. It owns the cursors and their tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from omaha_mirror.aio.tasks import stop
from omaha_mirror.cache.cursor import Cursor, CursorSpan, Download
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import Clearance, FillState
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Span
from omaha_mirror.cache.waiters import Waiters

SOON_SECONDS = 2.0
NEAR_AT_LEAST = 256 * 1024
NEAR_AT_MOST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change: spans to open a cursor for, and indexes of cursors to stop.

    `short` says that a reader needs a cursor and must wait for one to end or to be free.
    """

    open: tuple[CursorSpan, ...] = ()
    stop: tuple[int, ...] = ()
    short: bool = False


def near(rate: float) -> int:
    """How far ahead of a cursor a reader may wait, in bytes, at `rate` bytes a second."""
    return int(min(NEAR_AT_MOST, max(NEAR_AT_LEAST, SOON_SECONDS * rate)))


def comes_by(cursor: CursorSpan, offset: int, rate: float) -> bool:
    """Whether `cursor` will fill `offset` soon."""
    reach = cursor.position + cursor.ahead + near(rate)
    return cursor.position <= offset < min(cursor.stop, reach)


def plan(
    *,
    size: int,
    filled: Intervals,
    cursors: Sequence[CursorSpan],
    wanted: Collection[int],
    rate: float,
    limit: int,
) -> Plan:
    """Decide which cursors to open and to stop.

    Args:
        size: size of the blob in bytes.
        filled: the bytes that are there.
        cursors: the running ones.
        wanted: unfilled offsets that readers wait for.
        rate: present rate of the fill in bytes a second, 0 when not known.
        limit: how many cursors there may be, at least 1.
    """
    missing = sorted({offset for offset in wanted if 0 <= offset < size and offset not in filled})
    opened: list[CursorSpan] = []
    stopped: list[int] = []
    short = False
    for offset in missing:
        running = [*cursors, *opened]
        if any(comes_by(c, offset, rate) for c in running):
            continue
        if len(running) >= limit:
            short = True
            idle = _idle(cursors, stopped, missing, rate)
            if idle is None:
                break
            stopped.append(idle)
            continue
        if opened and opened[-1].stop > offset:
            opened[-1] = CursorSpan(opened[-1].position, offset)
        opened.append(_hole(offset, size, filled, cursors))
    if not opened and not missing and not cursors:
        opened += [CursorSpan(*gap) for gap in islice(filled.gaps(0, size), 1)]
    return Plan(tuple(opened), tuple(stopped), short)


def _hole(offset: int, size: int, filled: Intervals, cursors: Sequence[CursorSpan]) -> CursorSpan:
    """From `offset` to where filled bytes or another cursor begin."""
    stop = filled.next_start(offset, size)
    return CursorSpan(offset, min([stop, *(c.position for c in cursors if c.position > offset)]))


def _idle(
    cursors: Sequence[CursorSpan], stopped: Collection[int], missing: Sequence[int], rate: float
) -> int | None:
    for i, cursor in enumerate(cursors):
        if i not in stopped and not any(comes_by(cursor, offset, rate) for offset in missing):
            return i
    return None


AHEAD = 4 * 1024 * 1024
"""A reader with fewer filled bytes than this before it counts as waiting for the next ones."""
Needs = Callable[[int, int], Iterable[Span]]
"""See `Prover.needs`."""


class Cursors:
    """Those of one fill.

    Args:
        state: of the fill.
        clearance: has the wrong bytes that were dropped.
        waiters: its readers.
        needs: what must be filled so that a range can be released.
        context: of the fill.
        written: called with [start, stop) when it was written.
        changed: set when a cursor ended, or the plan may be another now.
    """

    def __init__(
        self,
        state: FillState,
        clearance: Clearance,
        waiters: Waiters,
        needs: Needs,
        context: FillContext,
        written: Callable[[int, int], None],
        changed: asyncio.Event,
    ) -> None:
        self._state = state
        self._clearance = clearance
        self._waiters = waiters
        self._needs = needs
        self._download = Download(state, waiters, context, written, self._stop_others)
        self._changed = changed
        self._tasks: dict[asyncio.Task[None], Cursor] = {}
        self._short = False
        self._planned = False

    def replan(self) -> None:
        """Open and stop cursors as the plan says."""
        state = self._state
        self._planned = True
        live = [(task, cursor) for task, cursor in self._tasks.items() if not task.done()]
        decided = plan(
            size=state.size,
            filled=state.filled,
            cursors=[cursor.span for _, cursor in live],
            wanted=self._wanted(),
            rate=state.rate.per_second(),
            limit=1 if state.in_order else state.limits.max_connections,
        )
        self._short = decided.short
        for i in decided.stop:
            task, cursor = live[i]
            cursor.stop = cursor.span.position + cursor.span.ahead
            task.cancel()
        for span in decided.open:
            for _, cursor in live:
                if cursor.position < span.position < cursor.stop:
                    cursor.stop = span.position
            opened = Cursor(self._download, span.position, span.stop)
            task = asyncio.create_task(opened.run())
            task.add_done_callback(lambda _: self._changed.set())
            self._tasks[task] = opened

    def want(self, offset: int) -> None:
        """A reader waits for the byte at `offset`."""
        if self._planned:
            filled = self._state.filled
            missing = (filled.run_end(start) for start, _ in self._needs(offset, offset + 1))
            if not all(map(self._comes_by, missing)):
                self.replan()

    def look_again(self) -> None:
        """Have the plan made anew where a reader got no cursor the last time."""
        if self._short:
            self._changed.set()

    def _comes_by(self, offset: int) -> bool:
        """Whether a cursor will fill `offset` soon."""
        rate = self._state.rate.per_second()
        return offset >= self._state.size or any(
            comes_by(cursor.span, offset, rate) for cursor in self._tasks.values()
        )

    def reap(self) -> None:
        """Remove the cursors that ended. Raises the error that one ended with."""
        for task in [task for task in self._tasks if task.done()]:
            del self._tasks[task]
            if not task.cancelled():
                task.result()

    def _stop_others(self) -> None:
        """Stop all cursors; one that calls this itself ends by itself."""
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def stop(self) -> None:
        """Stop all cursors, and return when they have ended."""
        self._planned = False
        await stop(self._tasks)
        self._tasks.clear()

    def _wanted(self) -> set[int]:
        """The unfilled offsets that readers need now or soon, and those of dropped bytes."""
        filled = self._state.filled
        if self._state.in_order:
            return {filled.run_end(0)}
        spans = list(self._clearance.dropped)
        for reader in self._waiters.readers:
            stop_at = min(reader.stop, reader.offset + AHEAD)
            if reader.offset < stop_at:
                spans += self._needs(reader.offset, stop_at)
        filled_to = ((filled.run_end(start), stop_at) for start, stop_at in spans)
        return {offset for offset, stop_at in filled_to if offset < stop_at}
