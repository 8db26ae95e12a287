"""The cursors of one fill: opens and stops them as the plan says, and learns how they ended.

Idle until the first `replan`; then `replan` and `reap` by turns, from the fill's own task; after `stop` idle again. It owns
the cursors and their tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from omaha_mirror.aio.tasks import stop
from omaha_mirror.cache.cursor import Cursor, Download
from omaha_mirror.cache.cursor_plan import comes_by, plan
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import Clearance, FillState
from omaha_mirror.cache.prover import Span
from omaha_mirror.cache.waiters import Waiters

AHEAD = 4 * 1024 * 1024
"""A reader with fewer filled bytes than this before it counts as waiting for what comes after them."""
Needs = Callable[[int, int], Iterable[Span]]
"""What must be filled so that [start, stop) can leave."""


class Cursors:
    """Those of one fill.

    Args:
        state: of the fill.
        clearance: says what was taken back.
        waiters: its readers.
        needs: see there.
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
        """A reader that went without a cursor may get one now."""
        if self._short:
            self._changed.set()

    def _comes_by(self, offset: int) -> bool:
        """Whether a cursor will fill `offset` soon."""
        rate = self._state.rate.per_second()
        return offset >= self._state.size or any(
            comes_by(cursor.span, offset, rate) for cursor in self._tasks.values()
        )

    def reap(self) -> None:
        """Forget cursors that ended; raises what one ended with."""
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
        """The unfilled offsets that readers are at or will soon be at, and those of bytes that were taken back."""
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
