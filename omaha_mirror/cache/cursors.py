"""The connections of one fill: opens and stops them as the plan says, and learns how they ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from omaha_mirror.aio.tasks import stop
from omaha_mirror.cache.cursor import Connection
from omaha_mirror.cache.cursor_plan import comes_by, plan

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill

AHEAD = 4 * 1024 * 1024
"""A reader with fewer filled bytes than this before it counts as waiting for what comes after them."""


class Crew:
    """Owns the tasks of a fill's cursors.

    Args:
        fill: what they work on.
        changed: set when one of them ended, or should be looked at.
    """

    def __init__(self, fill: Fill, changed: asyncio.Event) -> None:
        self._fill = fill
        self._changed = changed
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self._short = False

    def __len__(self) -> int:
        return len(self._tasks)

    def replan(self) -> None:
        """Open and stop cursors as the plan says."""
        fill = self._fill
        live = [(task, cursor) for task, cursor in self._tasks.items() if not task.done()]
        decided = plan(
            size=fill.size,
            filled=fill.filled,
            cursors=[cursor.span for _, cursor in live],
            wanted=self._wanted(),
            rate=fill.rate.per_second(),
            limit=1 if fill.in_order else fill.limits.max_connections,
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
            connection = Connection(fill, span.position, span.stop)
            task = asyncio.create_task(connection.run())
            task.add_done_callback(lambda _: self._changed.set())
            self._tasks[task] = connection

    def look_again(self) -> None:
        """A reader that went without a cursor may get one now."""
        if self._short:
            self._changed.set()

    def comes_by(self, offset: int) -> bool:
        """Whether a cursor will fill `offset` soon."""
        rate = self._fill.rate.per_second()
        return offset >= self._fill.size or any(
            comes_by(cursor.span, offset, rate) for cursor in self._tasks.values()
        )

    def reap(self) -> None:
        """Forget cursors that ended; raises what one ended with."""
        for task in [task for task in self._tasks if task.done()]:
            del self._tasks[task]
            if not task.cancelled():
                task.result()

    def stop_others(self) -> None:
        """Stop all cursors; one that calls this itself ends by itself."""
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def stop(self) -> None:
        """Stop all cursors, and return when they have ended."""
        await stop(self._tasks)
        self._tasks.clear()

    def _wanted(self) -> set[int]:
        """The unfilled offsets that readers are at or will soon be at, and those of bytes that were taken back."""
        fill = self._fill
        if fill.in_order:
            return {fill.filled.run_end(0)}
        spans = list(fill.proving.dropped)
        for follower in fill.followers:
            stop = min(follower.stop, follower.offset + AHEAD)
            if follower.offset < stop:
                spans += fill.needs(follower.offset, stop)
        filled_to = ((fill.filled.run_end(start), stop) for start, stop in spans)
        return {offset for offset, stop in filled_to if offset < stop}
