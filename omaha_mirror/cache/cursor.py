"""A cursor fills one part of a blob over one upstream connection at a time, and connects again after failures.

A cursor goes one way: made by `Cursors`, `run` in a task of its own, then ended or cancelled. Its `position` only grows, and
its `stop` may be lowered while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import ParamSpec

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.errors import SourceChanged, SourceFailed, SourceStalled, is_full
from omaha_mirror.cache.events import Connected, Trouble, Uncached
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import TRIES, FillState
from omaha_mirror.cache.hedging import Response, Throughput, hedge, hedge_slow
from omaha_mirror.cache.memory_draft import Overflowed
from omaha_mirror.cache.source import Body, Validator
from omaha_mirror.cache.store import Draft
from omaha_mirror.cache.waiters import Waiters
from omaha_mirror.cache.write_behind import WriteBehind

P = ParamSpec("P")


class Download:
    """What the cursors of one fill share.

    Args:
        state: of the fill; the cursors add the bytes that they write.
        waiters: its readers.
        context: of the fill.
        written: called with [start, stop) when it was written.
        stop_others: stops all cursors but the one that calls it.
    """

    def __init__(
        self,
        state: FillState,
        waiters: Waiters,
        context: FillContext,
        written: Callable[[int, int], None],
        stop_others: Callable[[], None],
    ) -> None:
        self.state = state
        self.waiters = waiters
        self.context = context
        self.written = written
        self.connecting_first = asyncio.Lock()
        self._stop_others = stop_others
        self._overflowing = asyncio.Lock()

    def report(self, position: int, reason: str, pause: float = 0.0) -> None:
        """Report a failure of upstream to the cache's hook."""
        key, source = self.state.expected.key, self.state.source.name
        self.context.hook(Trouble(key, source, position, reason, pause))

    async def wait_until_unneeded(self, stop: int) -> None:
        """Return when bytes up to `stop` can be written without discarding any that is still needed."""
        state = self.state
        if (capacity := state.draft.capacity) is not None:
            before = stop - capacity
            await self.waiters.wait_until_unneeded(before)
            state.discarded_to = max(state.discarded_to, before)

    async def overflow(self, draft: Draft, error: OSError) -> None:
        """The disk refused bytes of `draft`: make room where it is full, else go on in memory.

        Raises:
            Overflowed: the bytes go to memory from now on.
            OSError: they went there before.
        """
        state = self.state
        async with self._overflowing:
            if draft is state.current_draft:
                if state.in_order:
                    raise error
                if is_full(error) and await self.context.make_room():
                    return
                key, source = state.expected.key, state.source.name
                self.context.hook(Uncached(key, source, str(error)))
                state.current_draft = self.context.in_memory(state, draft)
                self._stop_others()
            raise Overflowed(str(error)) from error


@dataclass(frozen=True, slots=True)
class CursorSpan:
    """A cursor's place: it has filled up to `position` and will stop at `stop` at the latest.

    `ahead` bytes more have arrived and are on their way to the disk.
    """

    position: int
    stop: int
    ahead: int = 0


class Cursor:
    """Fills [position, stop) of a blob."""

    def __init__(self, download: Download, position: int, stop: int) -> None:
        self.position, self.stop = position, stop
        self._download = download
        self._state = download.state
        self._draft = download.state.draft
        self._behind = WriteBehind(self._write, download.state.limits.pending)
        self._validator: Validator = {}
        self._changes = 0

    @property
    def span(self) -> CursorSpan:
        """Its place, as the plan takes it."""
        return CursorSpan(self.position, self.stop, self._behind.pending)

    async def run(self) -> None:
        """Return when filled bytes, or `stop`, are reached, or the fill has another draft than it began with.

        Raises:
            SourceGone, SourceRefused, SourceChanged: no other try can help.
            SourceFailed: tried for long enough.
            OSError: the store failed.
        """
        with contextlib.suppress(Overflowed):
            await self._run()

    async def _run(self) -> None:
        failures = 0
        while self.position < self._bound():
            before = self.position
            try:
                await self._fetch()
            except SourceFailed as failure:
                failures = 1 if self.position > before else failures + 1
                await self._pause(failures, failure)
            except SourceChanged as change:
                await self._pause(self._count_change(change), SourceFailed(str(change)))

    def _count_change(self, change: SourceChanged) -> int:
        """Count the answers in a row that had another file: another size, or another generation.

        Another node may have the right one. Raises `change` after too many, and where no digest will judge the bytes.
        """
        self._changes += 1
        if not self._state.expected.has_digest or self._changes > TRIES:
            raise change
        return self._changes

    def _bound(self) -> int:
        return self._state.bound(self.position, self.stop)

    async def _pause(self, failures: int, failure: SourceFailed) -> None:
        self._state.last_failure = failure
        if not self._download.waiters.is_worth_trying():
            raise failure
        pause = self._state.source.pause(failures, failure)
        self._download.report(self.position, str(failure), pause)
        await asyncio.sleep(pause)

    async def _fetch(self) -> None:
        state, download, behind = self._state, self._download, self._behind
        limits, scheduler, waiters = state.limits, download.context.scheduler, download.waiters
        response = Response(self._open)
        throughput = Throughput(limits.slow_seconds, limits.slow_rate)
        try:
            while self._missing() > 0:
                await self._wait_for_turn()
                asked = time.monotonic()
                chunk: bytes | None
                try:
                    if throughput.slow and waiters.readers:
                        response, chunk = await self._hedge_slow(response)
                        throughput = Throughput(limits.slow_seconds, limits.slow_rate)
                    else:
                        chunk = await response.next()
                except SourceStalled as stall:
                    response, chunk = await self._hedge(response, stall)
                throughput.add(len(chunk or b""), time.monotonic() - asked)
                if chunk is None:
                    raise SourceFailed(f"{state.source.name} ended early")
                self._validator, self._changes = response.validator, 0
                state.nodes.require(state.source.name, self._validator)
                if not (chunk := chunk[: max(0, self._missing())]):
                    break
                await download.wait_until_unneeded(self.position + behind.pending + len(chunk))
                await scheduler.take(len(chunk), waiters.priority())
                await behind.put(chunk)
        finally:
            try:
                await response.close()
            finally:
                await behind.close()

    async def _wait_for_turn(self) -> None:
        """Return when it is the fill's turn to fetch; the time until then does not count as a stall."""
        scheduler = self._download.context.scheduler
        if not scheduler.has_turn(self._state):
            await scheduler.turn(self._state)
            self._state.last_byte_at = time.monotonic()

    def _missing(self) -> int:
        """Bytes that this cursor still has to fetch."""
        return self._bound() - self.position - self._behind.pending

    async def _hedge(
        self, stalled: Response, stall: SourceStalled
    ) -> tuple[Response, bytes | None]:
        """Open a second connection at the same offset beside one that stalls."""
        await self._behind.close()
        self._state.last_failure = stall
        self._download.report(self.position, str(stall))
        pause, worth_it = self._state.source.pause, self._download.waiters.is_worth_trying
        return await hedge(stalled, self._open, pause=pause, worth_it=worth_it)

    async def _hedge_slow(self, slow: Response) -> tuple[Response, bytes]:
        """Open a second connection at the same offset beside one that is slow."""
        state, limits = self._state, self._state.limits
        await self._behind.close()
        words = f"{state.source.name}: fewer than {limits.slow_rate:g} bytes a second for {limits.slow_seconds:g} s"
        self._download.report(self.position, words)
        worth_it = self._download.waiters.is_worth_trying
        return await hedge_slow(slow, self._open, seconds=limits.contest_seconds, worth_it=worth_it)

    async def _open(self, stack: AsyncExitStack) -> Body:
        """Connect; the first connection of a fill decides which generation the others must be of."""
        state = self._state
        if state.generation is not None:
            return await self._connect(stack)
        async with self._download.connecting_first:
            body = await self._connect(stack)
            if state.generation is None:
                await self._on_draft(self._draft.begin, body.validator)
                state.generation = body.validator
            return body

    async def _connect(self, stack: AsyncExitStack) -> Body:
        state, stop = self._state, self._bound()
        name = state.source.name
        self._download.context.hook(Connected(state.expected.key, name, self.position, stop))
        held = state.generation if state.one_generation else None
        body = await stack.enter_async_context(state.source.open(self.position, stop, held))
        state.nodes.require(name, body.validator)
        if body.start != self.position:
            raise SourceFailed(f"{name} began at {body.start}, not at {self.position}")
        return body

    async def _write(self, batch: list[bytes]) -> None:
        await self._on_draft(self._draft.write, self.position, batch)
        start, self.position = self.position, self.position + sum(map(len, batch))
        self._state.nodes.received(self._validator, start, self.position)
        self._download.written(start, self.position)

    async def _on_draft(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a method of the draft; once more where the disk was full and room was made. Raises Overflowed, OSError."""
        done = False
        while not done:
            try:
                await in_worker(work, *args, **kwargs)
                done = True
            except OSError as error:
                await self._download.overflow(self._draft, error)
        if self._state.draft is not self._draft:
            raise Overflowed("the disk refused bytes of another cursor")
