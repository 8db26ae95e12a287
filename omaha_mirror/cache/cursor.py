"""One cursor at work: connect, write what arrives, connect again after trouble."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, ParamSpec

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.cursor_plan import Span
from omaha_mirror.cache.errors import SourceChanged, SourceFailed, SourceStalled
from omaha_mirror.cache.events import Connected, Trouble
from omaha_mirror.cache.hedging import Response, Throughput, hedge, hedge_slow
from omaha_mirror.cache.nodes import TRIES
from omaha_mirror.cache.source import Body, Validator
from omaha_mirror.cache.spool import Overflowed
from omaha_mirror.cache.write_behind import WriteBehind

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill

P = ParamSpec("P")


class Connection:
    """Fills [position, stop) of a fill; `stop` may be lowered while it runs."""

    def __init__(self, fill: Fill, position: int, stop: int) -> None:
        self.position, self.stop = position, stop
        self._fill = fill
        self._draft = fill.draft
        self._behind = WriteBehind(self._write, fill.limits.pending)
        self._from: Validator = {}
        self._strangers = 0

    @property
    def span(self) -> Span:
        """Its place, as the plan takes it."""
        return Span(self.position, self.stop, self._behind.pending)

    async def run(self) -> None:
        """Return when filled bytes, or `stop`, are reached, or bytes go elsewhere than to the draft that it began with.

        Raises:
            SourceGone, SourceRefused, SourceChanged: there is nothing to hope for.
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
                await self._pause(self._another(change), SourceFailed(str(change)))

    def _another(self, change: SourceChanged) -> int:
        """How often in a row a node answered that has another file, in size or in a generation that all must come from.

        The next node asked may have the right one. Raises `change` where there is nothing to hope for: no digest would tell.
        """
        self._strangers += 1
        if self._fill.by_validator or self._strangers > TRIES:
            raise change
        return self._strangers

    def _bound(self) -> int:
        return self._fill.bound(self.position, self.stop)

    async def _pause(self, failures: int, failure: SourceFailed) -> None:
        fill = self._fill
        fill.trouble = failure
        if not fill.worth_trying():
            raise failure
        pause = fill.source.pause(failures, failure)
        fill.hook(Trouble(fill.expected.key, fill.source.name, self.position, str(failure), pause))
        await asyncio.sleep(pause)

    async def _fetch(self) -> None:
        fill, behind = self._fill, self._behind
        response = Response(self._open)
        throughput = Throughput(fill.limits.slow_seconds, fill.limits.slow_rate)
        try:
            while self._lacks() > 0:
                await self._turn()
                asked = time.monotonic()
                chunk: bytes | None
                try:
                    if throughput.slow and fill.followers:
                        response, chunk = await self._contest(response)
                        throughput = Throughput(fill.limits.slow_seconds, fill.limits.slow_rate)
                    else:
                        chunk = await response.next()
                except SourceStalled as stall:
                    response, chunk = await self._race(response, stall)
                throughput.add(len(chunk or b""), time.monotonic() - asked)
                if chunk is None:
                    raise SourceFailed(f"{fill.source.name} ended early")
                self._from, self._strangers = response.validator, 0
                fill.nodes.require(fill.source.name, self._from)
                if not (chunk := chunk[: max(0, self._lacks())]):
                    break
                await fill.room(self.position + behind.pending + len(chunk))
                await fill.scheduler.take(len(chunk), fill.priority())
                await behind.put(chunk)
        finally:
            try:
                await response.close()
            finally:
                await behind.close()

    async def _turn(self) -> None:
        """Return when it is the fill's turn on the line; until then nobody is silent."""
        fill = self._fill
        if not fill.scheduler.has_turn(fill):
            await fill.scheduler.turn(fill)
            fill.heard = time.monotonic()

    def _lacks(self) -> int:
        """Bytes that are still to come, as the plan stands now."""
        return self._bound() - self.position - self._behind.pending

    async def _race(self, stalled: Response, stall: SourceStalled) -> tuple[Response, bytes | None]:
        """Bytes stopped coming: ask again at the same offset beside it."""
        fill = self._fill
        await self._behind.close()
        fill.trouble = stall
        fill.hook(Trouble(fill.expected.key, fill.source.name, self.position, str(stall), 0.0))
        return await hedge(stalled, self._open, pause=fill.source.pause, worth_it=fill.worth_trying)

    async def _contest(self, slow: Response) -> tuple[Response, bytes]:
        """Bytes hardly come: ask again at the same offset beside it."""
        fill, limits = self._fill, self._fill.limits
        await self._behind.close()
        words = f"{fill.source.name}: fewer than {limits.slow_rate:g} bytes a second for {limits.slow_seconds:g} s"
        fill.hook(Trouble(fill.expected.key, fill.source.name, self.position, words, 0.0))
        return await hedge_slow(
            slow, self._open, seconds=limits.contest_seconds, worth_it=fill.worth_trying
        )

    async def _open(self, stack: AsyncExitStack) -> Body:
        """Connect; the first connection of a fill decides which generation the others must be of."""
        fill = self._fill
        if fill.generation is not None:
            return await self._connect(stack)
        async with fill.agreeing:
            body = await self._connect(stack)
            if fill.generation is None:
                await self._on_draft(self._draft.begin, body.validator)
                fill.generation = body.validator
            return body

    async def _connect(self, stack: AsyncExitStack) -> Body:
        fill, stop = self._fill, self._bound()
        fill.hook(Connected(fill.expected.key, fill.source.name, self.position, stop))
        held = fill.generation if fill.one_generation else None
        body = await stack.enter_async_context(fill.source.open(self.position, stop, held))
        fill.nodes.require(fill.source.name, body.validator)
        if body.start != self.position:
            raise SourceFailed(f"{fill.source.name} began at {body.start}, not at {self.position}")
        return body

    async def _write(self, batch: list[bytes]) -> None:
        await self._on_draft(self._draft.write, self.position, batch)
        start, self.position = self.position, self.position + sum(map(len, batch))
        self._fill.nodes.received(self._from, start, self.position)
        self._fill.written(start, self.position)

    async def _on_draft(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have the draft do something, again where the disk refused and room was made. Raises Overflowed, OSError."""
        fill, done = self._fill, False
        while not done:
            try:
                await in_worker(work, *args, **kwargs)
                done = True
            except OSError as error:
                await fill.overflow(self._draft, error)
        if fill.draft is not self._draft:
            raise Overflowed("the disk refused bytes of another connection")
