"""A growing blob: fetched once, by its own tasks, for whoever reads along.

A fill goes one way: filling, then proven or failed. Cursors write what arrives; the proving task has it judged; the
recording task makes progress survive a power cut. No reader drives a fill, and none can stop it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace

from omaha_mirror.aio.tasks import finish, in_worker, stop
from omaha_mirror.aio.workers import BLOBS, Hangs
from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.checkpoint import Recorder
from omaha_mirror.cache.cursors import Crew
from omaha_mirror.cache.ending import close, failure_of, leave
from omaha_mirror.cache.errors import (
    CacheError,
    Defect,
    GenerationEnded,
    Lost,
    SourceFailed,
    Untrusted,
)
from omaha_mirror.cache.fetch_scheduler import Priority
from omaha_mirror.cache.fill_context import Setting
from omaha_mirror.cache.follower import Follower
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.nodes import Nodes
from omaha_mirror.cache.prover import Prover, Span
from omaha_mirror.cache.rate import Rate
from omaha_mirror.cache.source import Source, Validator
from omaha_mirror.cache.spool import Overflowed, SpoolDraft
from omaha_mirror.cache.store import Draft, Identity, Place
from omaha_mirror.cache.verification import Proving
from omaha_mirror.cache.waiters import Audience


class Fill:
    """One blob on its way in. Made by the cache, which runs `run()` in a task of its own.

    Args:
        expected: what it must become.
        source: where the bytes come from.
        prover: says what may leave.
        setting: what it is given by the cache.
        checks: whether the blob is here already, and only to be proven again.
    """

    def __init__(
        self,
        expected: Expected,
        source: Source,
        prover: Prover,
        setting: Setting,
        *,
        checks: bool = False,
    ) -> None:
        self.checks = checks
        self.mends = False
        self.source = source
        self.expected = replace(expected)  # its own: a call with it is this fill's
        self.size = expected.size
        self.filled = Intervals()
        self.fetched = 0
        self.rate = Rate()
        self.failure: CacheError | None = None
        self.trouble: SourceFailed | None = None
        self.proof: Proof | None = None
        self.identity: Identity | None = None
        self.generation: Validator | None = None
        self.nodes = Nodes()
        self.by_validator = expected.proven_by == "size-and-validator"
        self.one_generation = setting.picky or self.by_validator
        self.agreeing = asyncio.Lock()
        self.limits = setting.limits
        self.scheduler = setting.scheduler
        self.hook = setting.hook
        self.ended = False
        self.leaked = False
        self.owed = checks
        self.heard = time.monotonic()
        self.setting = setting
        self._draft: Draft | None = None
        self._overflowing = asyncio.Lock()
        self._fetching = False
        self._has_place = False
        self._forgotten = 0
        self._changed = asyncio.Event()
        self.proving = Proving(self, prover, self._changed.set)
        self.audience = Audience(self)
        self._crew = Crew(self, self._changed)
        self._recorder = Recorder(setting.limits)

    @property
    def draft(self) -> Draft:
        """Where the bytes are. There is none before the first of them, and no connection either."""
        if self._draft is None:
            raise RuntimeError("the fill has not begun")
        return self._draft

    @property
    def followers(self) -> set[Follower]:
        """Who reads along."""
        return self.audience.followers

    def attach(self, follower: Follower) -> None:
        """Count a reader in."""
        self.audience.followers.add(follower)
        self.proving.has(follower.start, follower.offset)

    def detach(self, follower: Follower) -> None:
        """Count a reader out; the last one out of an ended fill closes the file.

        One that got nothing because the proof is not there comes again for it: the fill goes on to the proof.
        """
        self.owed = self.owed or self.audience.holds_up(follower)
        self.audience.leave(follower)
        self._crew.look_again()
        self._let_go()

    def edge(self, follower: Follower) -> int:
        """Where the bytes that the follower may have end; its own offset where it may have none."""
        return self.audience.edge(follower)

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie; read only what may leave."""
        return self.draft.place(offset)

    async def before_send(self, start: int, stop: int) -> None:
        """Note that [start, stop) is about to be sent on."""
        self.sent()
        if self.proof is None:
            await self.proving.leave(start, stop)

    def sent(self) -> None:
        """Note that a reader sends bytes on, or did."""
        self.leaked = self.leaked or (self.proof is None and not self.checks)
        self.audience.moved()

    async def wait(self, follower: Follower) -> int:
        """Where the bytes that the follower may have now end; see `Audience.wait`."""
        return await self.audience.wait(follower)

    def unreadable(self, reason: str) -> None:
        """Told that bytes cannot be read. Raises CacheError where that ends the fill, and not only a blob that it proved."""
        self.proving.unreadable(reason)

    @property
    def is_stuck(self) -> bool:
        """Whether the disk does not answer: nobody need join."""
        return BLOBS.hang_on(self.expected) or BLOBS.hang_on(self._draft)

    def hangs(self, error: Hangs, follower: Follower) -> bool:  # noqa: ARG002
        """See `Readable.hangs`."""
        return self.proof is not None or self.proving.is_right(follower.start, follower.offset)

    def joinable(self, offset: int) -> bool:
        """Whether a reader that begins at `offset` can still have its first bytes."""
        return not self.ended and not self.passed(offset) and not self.is_stuck

    def want(self, offset: int) -> None:
        """Somebody waits for the byte at `offset`."""
        missing = (self.filled.run_end(start) for start, _ in self.needs(offset, offset + 1))
        if self._fetching and not all(map(self._crew.comes_by, missing)):
            self._crew.replan()

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """What must be filled so that [start, stop) can leave."""
        return self.proving.needs(start, stop)

    # What its connections use

    @property
    def in_order(self) -> bool:
        """Whether bytes must come in order: they pass through a spool."""
        return self._draft is not None and self._draft.capacity is not None

    def worth_trying(self) -> bool:
        """Whether something came lately, or somebody has not waited long yet."""
        return self.audience.patience_left(self.audience.newest) > 0

    def priority(self) -> Priority:
        """Who waits goes first; what was here before goes last."""
        if self.followers:
            return Priority.WAITED_FOR
        return Priority.REPAIR if self.setting.repairs else Priority.PREFETCH

    def bound(self, position: int, stop: int) -> int:
        """Where a cursor that has filled up to `position` must end: filled bytes, or its own `stop`."""
        return min(stop, self.filled.next_start(position, self.size))

    def written(self, start: int, stop: int) -> None:
        """Note that [start, stop) was written."""
        self.filled = self.filled.add(start, stop)
        self.fetched += stop - start
        self.rate.add(stop - start)
        self.heard = time.monotonic()
        self._recorder.note(stop - start)
        self.proving.grown.set()
        self._crew.look_again()

    async def room(self, stop: int) -> None:
        """Return when bytes up to `stop` will not push out any that somebody still needs."""
        if self.draft.capacity is not None:
            before = stop - self.draft.capacity
            await self.audience.room(before)
            self._forgotten = max(self._forgotten, before)

    def passed(self, offset: int) -> bool:
        """Whether the byte at `offset` came and was forgotten."""
        return self.in_order and self.passing(offset) < self._forgotten

    def passing(self, offset: int) -> int:
        """The first byte from `offset` on that does not lie on the disk."""
        return self.draft.filled.run_end(offset)

    async def overflow(self, draft: Draft, error: OSError) -> None:
        """The disk refused bytes of `draft`: make room, else go on without keeping them.

        Raises:
            Overflowed: the bytes go elsewhere from now on.
            OSError: there is nowhere else.
        """
        async with self._overflowing:
            if draft is self._draft:
                if self.in_order:
                    raise error
                if await self.setting.make_room():
                    return
                self.hook(events.Uncached(self.expected.key, self.source.name, str(error)))
                self._draft = SpoolDraft(self.expected, self.limits.spool, draft, self.filled)
                self._crew.stop_others()
            raise Overflowed(str(error)) from error

    # What the proof does

    def take_back(self, start: int, stop: int, *, leaked: bool) -> None:
        """[start, stop) is wrong. Where some of it has left, who got it is cut, and nobody goes on with it."""
        self.filled = self.filled.remove(start, stop)
        if leaked:
            self.setting.tainted()
        for follower in list(self.followers):
            if follower.start < stop and start < follower.reach:
                follower.cut()

    def woke(self) -> None:
        """More may leave, and less is needed."""
        self.audience.wake()
        self.audience.moved()

    async def run(self) -> tuple[str, Proof]:
        """Fetch, prove and commit; gives the key of the proven blob, "" when it was not kept, and its proof.

        Raises:
            CacheError: why the fill failed; its readers have been told.
            OSError: the store failed.
        """
        try:
            async with AsyncExitStack() as stack:
                if not self.checks:
                    await self._take_place(stack)
                await finish(self._begin())
                proof = self.proof = await self._fetch_and_prove(stack)
                self.setting.proven(proof)
                self.proving.released = Intervals([(0, self.size)])
                self.audience.wake()
                named = await in_worker(self.draft.commit, proof)
                self.identity = self.draft.identity
                return named, proof
        except BaseException as error:
            self.failure = failure_of(error)
            if isinstance(self.failure, Defect):
                raise self.failure from error
            raise
        finally:
            await self._put_away()

    async def _take_place(self, stack: AsyncExitStack) -> None:
        """One of those in the line; what lacks no byte needs none."""
        if self.setting.pause:
            await asyncio.sleep(self.setting.pause)
            self.heard = time.monotonic()
        await stack.enter_async_context(
            self.scheduler.fill(self, self.priority, self.audience.claim)
        )
        self._has_place = True

    async def _begin(self) -> None:
        draft = self._draft = await self.setting.open_draft(self)
        self.filled, self.generation = draft.filled, draft.validator
        self.leaked = draft.leaked if self.checks else bool(draft.filled)
        self.proving.begin(draft)
        if not self.checks:
            for start, stop in draft.filled:
                self.nodes.received(draft.validator or {}, start, stop)
            self.tell_start()

    def tell_start(self) -> None:
        """Bytes are fetched."""
        key, name = self.expected.key, self.source.name
        self.hook(events.FillStarted(key, name, self.size, self.filled.total))

    async def _fetch_and_prove(self, stack: AsyncExitStack) -> Proof:
        proving = asyncio.create_task(self.proving.run())
        proving.add_done_callback(lambda _: self._changed.set())
        record = lambda: self.draft.record()  # noqa: E731, PLW0108 - the draft may be another later
        recording = asyncio.create_task(self._recorder.run(record))
        self.proving.grown.set()
        self._fetching = True
        try:
            while not proving.done():
                if not self._has_place and self.filled.total < self.size:
                    await self._take_place(stack)
                self._crew.replan()
                await self._changed.wait()
                self._changed.clear()
                self._crew.reap()
            return await proving
        finally:
            self._fetching = False
            await self._crew.stop()
            await stop((proving, recording))

    async def _put_away(self) -> None:
        """Leave the draft as its end demands, then tell the readers."""
        self.leaked = self.leaked and not isinstance(self.failure, Untrusted)  # no byte was wrong
        if isinstance(self.failure, GenerationEnded | Lost):
            self.setting.wrong(self.failure, self.leaked)
            self.proving.end(self.failure)
        try:
            if self._draft is not None and self.proof is None:
                how = {"leaked": self.leaked, "is_empty": not self.filled}
                await in_worker(leave, self._draft, self.failure, **how)
        finally:
            if self.checks and isinstance(self.failure, GenerationEnded):
                self.failure = Lost(str(self.failure))
            self.failure = self.failure or self.proving.lost
            self.ended = True
            self.audience.wake()
            self._let_go()

    def _let_go(self) -> None:
        if self.ended and not self.followers and self._draft is not None:
            close(self._draft)
