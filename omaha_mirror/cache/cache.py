"""The cache: one fill for each blob (collapsed forwarding), and the owner of all fill tasks.

Phases: made, `start` once, then everything else in any order, `close` once. What decides whether a request is a hit, joins a
fill or starts one runs without an await in between: no two requests can start the same fill. It owns the fills and their
tasks; the index, the space, the failures and the heads own their own records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Literal

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import finish, in_worker, log_defect
from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.errors import (
    CacheError,
    CoolingDown,
    Defect,
    Distrusted,
    GenerationEnded,
    Lost,
    ResumeUnsafe,
    Stopping,
    Untrusted,
)
from omaha_mirror.cache.failures import Failures
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill import Fill, event_of
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import FillState, Limits
from omaha_mirror.cache.heads import Heads
from omaha_mirror.cache.index import Index, Unverified
from omaha_mirror.cache.ingest import Ingest
from omaha_mirror.cache.inventory import Contents, LastVerified, Progress, last_verified, look
from omaha_mirror.cache.open_blob import Opening, ProvenBlob
from omaha_mirror.cache.prover import HoldBacks, Provers
from omaha_mirror.cache.reader import Readable, Reader
from omaha_mirror.cache.source import Source
from omaha_mirror.cache.space import Ledger, Space, Uses
from omaha_mirror.cache.store import Identity, Refusal, Removed, Store, Swept


class Cache:
    """Blobs by their expected digest: absent, filling or proven.

    Args:
        store: where they are kept.
        ledger: the space accounts of the same directory.
        clock: tells the time.
        limits: bounds of each fill.
        scheduler: shares the bandwidth between the fills; its limits can be changed while it runs.
        hold_back: bytes at the end of an unproven blob that no reader gets; at least 1.
        provers: make the prover of each fill, and say what is required of a blob besides its digest.
        when_abandoned: whether a fill goes on when its last reader has left.
        hook: called with each event.
        keep: whether a proven blob without readers must not be evicted.

    Attributes:
        suspects: see `Failures`.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        *,
        limits: Limits | None = None,
        scheduler: FetchScheduler | None = None,
        hold_back: int = 1024 * 1024,
        provers: Provers | None = None,
        when_abandoned: Literal["finish", "stop"] = "finish",
        hook: events.Hook = lambda _event: None,
        keep: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self.limits = limits or Limits()
        self.scheduler = scheduler or FetchScheduler()
        self._hold_back = hold_back
        self._provers = provers or HoldBacks()
        self._when_abandoned = when_abandoned
        self._hook = hook
        self._keep = keep
        self.clock = clock
        self._index = Index(store, ledger, self._provers, self._note_corrupted, self.clock)
        self._space = Space(store, ledger, hook, self._must_stay, self._index.forget, self.clock)
        self._failures = Failures(self.clock)
        self.suspects: Collection[str] = self._failures.suspects
        self._heads = Heads(store, self._provers)
        self._fills: dict[str, Fill] = {}
        self._tasks: dict[Fill, asyncio.Task[Proof]] = {}
        parts = self._failures, self._heads, self._index, ledger, self._space
        self._context = FillContext(self.scheduler, hook, *parts, self._note_corrupted, store)
        self._uses = Uses()
        self._stopping = False

    async def start(self) -> None:
        """Rebuild the index from the files. Raises OSError."""
        await self._index.load()
        await self._heads.load()
        await self._context.start()

    async def close(self) -> None:
        """Stop all fills; their bytes are recorded."""
        self._stopping = True
        await asyncio.sleep(0)  # a task that is cancelled before its first step runs no `finally`
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._index.close()

    # Looking

    def holds(self, key: str) -> bool:
        """Whether the blob is here and proven."""
        return self._index.holds(key)

    def cooldown(self, key: str) -> str | None:
        """Why the blob is not fetched at present, or None: its bytes turned out wrong."""
        return self._failures.cooldown(key)

    def refused(self, key: str) -> str | None:
        """Why the blob must not be served although its digest is right, or None: it is not signed, for example."""
        return self._failures.refused(key, self._provers)

    def immovable(self) -> dict[str, str]:
        """Why damaged blobs could not be put aside when they were last fetched, by their keys."""
        return {k: why for k, why in self._context.immovable.items() if not self.holds(k)}

    def fills(self) -> list[Progress]:
        """The fills that run or wait for their turn."""
        places = self.scheduler.positions()
        shown = [fill for fill in self._tasks if fill.state.repairs or not fill.state.is_recheck]
        return [fill.progress(places.get(fill.state, 0)) for fill in shown]

    # Reading

    def read(
        self, expected: Expected, source: Source, start: int, stop: int, client: str = ""
    ) -> Reader:
        """Read [start, stop) of a blob, until the reader is closed; fetches it where it is not here. Clients take turns on the line.

        Raises:
            CoolingDown: it turned out wrong too often, or must not be served.
            ResumeUnsafe: `start` is not 0, and the bytes before it that the client has may be wrong.
            Stopping: the mirror is being stopped.
        """
        find = partial(self._find, expected, source, start)
        left = partial(self._reader_left, expected.key)
        reader = Reader(find, start, stop, partial(self._heads.size, expected), client, left)
        self._uses.readers[expected.key] += 1
        return reader

    async def fetch(self, expected: Expected, source: Source) -> Proof | None:
        """Fetch and prove a blob; None where it is here already.

        Raises:
            CacheError, OSError: why the fill failed.
        """
        with self._uses.fetching(expected.key):
            while not self.holds(expected.key):
                self._find(expected, source, 0, 0)
                task = self._tasks[self._fills[expected.key]]
                await asyncio.wait([task])
                if task.cancelled():
                    raise Stopping("the fill was stopped")
                error = task.exception()
                if error is None or isinstance(error, OSError):
                    return task.result()
                if not isinstance(error, GenerationEnded | Lost):
                    raise error if isinstance(error, CacheError) else Defect()
            return None

    def ingest(self) -> Ingest:
        """Adds blobs of an import; an async context manager."""
        parts = self._store, self._ledger, self._space, self._index
        return Ingest(*parts, self._provers, self._failures, self._heads)

    def _find(
        self, expected: Expected, source: Source, start: int, offset: int
    ) -> tuple[Readable, events.Status]:
        """The blob for a reader that began at `start` and is at `offset`, and how the cache had it."""
        key = expected.key
        if offset == start > 0 and self._failures.is_resume_unsafe(key):
            raise ResumeUnsafe("bytes of it turned out wrong lately: begin again without a Range")
        readable, status = self._look_up(expected, source, offset)
        if not isinstance(readable, Opening):  # it is looked for again
            self._hook(events.Opened(key, status))
        return readable, status

    def _look_up(
        self, expected: Expected, source: Source, offset: int
    ) -> tuple[Readable, events.Status]:
        """The blob to read from. A recheck counts as a hit: nothing is fetched."""
        key = expected.key
        fill = self._fills.get(key)
        if fill is not None and not fill.joinable(offset):
            fill = None
        if fill is not None and fill.state.is_recheck:
            return fill, "hit" if self.holds(key) else "filling"
        match self._index.find(expected):
            case ProvenBlob() | Opening() as blob:
                return blob, "hit"
            case _ if fill is not None:
                return fill, "filling"
            case Unverified(size):
                here, was_held = replace(expected, size=size), self.holds(key)
                return self._start(here, source, is_recheck=True), "hit" if was_held else "miss"
        return self._start(expected, source), "miss"

    def _reader_left(self, key: str) -> None:
        """A reader left."""
        readers = self._uses.readers
        readers[key] -= 1
        if not readers[key]:
            del readers[key]
        self._index.touch(key)
        if (fill := self._fills.get(key)) is None:
            return
        self.scheduler.look_again()
        if self._when_abandoned == "finish" or self._uses.is_fetched(key):
            return
        if not (fill.waiters.readers or fill.must_finish or fill.state.proof):
            self._tasks[fill].cancel()

    # Maintenance

    async def contents(self, most: int | None = None) -> Contents:
        """All contents, or of the blobs only the `most` last used ones. Raises OSError."""
        return await look(self._store, self._ledger, self._uses.readers, self._keep, most)

    async def verifications(self) -> list[LastVerified]:
        """When each proven blob was last found right. Raises OSError."""
        return await in_worker(last_verified, self._store, list(self._ledger.entries))

    def busy(self, key: str) -> AbstractContextManager[None]:
        """Keep a blob from being evicted or removed."""
        return self._uses.busy(key)

    def lists(self, key: str) -> bool:
        """See `Index.lists`."""
        return self._index.lists(key)

    async def verified(self, key: str, found: Identity | None) -> None:
        """Note that the bytes of this file of a blob were found right."""
        self._index.verified(key, found)
        await self._heads.learn(key)

    async def quarantine(self, key: str, reason: str) -> None:
        """Put a proven blob aside that turned out wrong: its readers are cut, the next request fetches it again.

        Raises:
            OSError: the disk failed; the blob is forgotten all the same.
        """
        if key in self._fills and self._fills[key].state.is_recheck:
            return  # a recheck runs, which finds the same
        blob = self._index.forget(key)
        self._failures.wrong(key, reason, leaked=blob is not None)
        if blob is not None:
            blob.cut(reason)
        self._note_corrupted(key, reason)
        await finish(self._space.quarantine(key, leaked=blob is not None))

    def _note_corrupted(self, key: str, reason: str) -> None:
        self._failures.corrupted(key)
        self._hook(events.Corrupted(key, reason))

    async def remove(self, key: str) -> Removed | None:
        """Remove a blob, proven or growing; None where there is neither. Runs to its end when cancelled. Raises InUse, OSError."""
        return await finish(self._space.remove(key, self._is_in_use))

    async def gc(self, *, dry_run: bool) -> Swept:
        """Evict down to the bounds, and remove leftovers that are a week old. Raises OSError."""
        self._context.update_ledger()
        return await self._space.sweep(self._context.growing, dry_run=dry_run)

    # Filling

    def _start(self, expected: Expected, source: Source, *, is_recheck: bool = False) -> Fill:
        if self._stopping:
            raise Stopping("the mirror is stopping")
        key = expected.key
        if reason := self.refused(key):
            raise Distrusted(reason)
        if reason := self.cooldown(key):
            raise CoolingDown(reason)
        state = FillState(
            expected,
            source,
            self.limits,
            is_recheck=is_recheck,
            was_here=is_recheck or self._failures.is_corrupted(key),
            one_generation=self._failures.mixed(key),
        )
        prover = self._provers(expected, self._hold_back, self._heads.get(key))
        pause = self._failures.pause(key) * self.limits.round_seconds
        fill = Fill(state, prover, self._context, pause)
        self._fills[key] = fill
        self._tasks[fill] = asyncio.create_task(self._run(fill))
        self._tasks[fill].add_done_callback(log_defect)
        return fill

    def _is_in_use(self, key: str) -> bool:
        return self._uses.is_used(key) or key in self._context.growing

    def _must_stay(self, key: str) -> bool:
        return self._is_in_use(key) or self._keep(key)

    async def _run(self, fill: Fill) -> Proof:
        """Run one round of a fill; however it ends, its place and its reservation are released."""
        state, began = fill.state, time.monotonic()
        key = state.expected.key
        ended_with: BaseException | None = None
        try:
            named, proof = await fill.run()
            if named:
                self._index.put(named, state.size, proof.signed_by, state.identity)
            self._failures.right(key)
            # Before the next await: a request that comes then may start a recheck.
            self._context.release(state)
            await self._heads.write()
            return proof
        except BaseException as error:
            ended_with = error
            is_lost = state.is_recheck and isinstance(error, GenerationEnded | Lost)
            if isinstance(error, Lost):
                self._note_corrupted(key, str(error))
            if is_lost and not self._index.is_verified(key):
                self._index.forget(key)
            if isinstance(error, Untrusted):
                await in_worker(self._store.refuse, key, Refusal(str(error), error.terms))
            raise
        finally:
            self._context.release(state)
            if self._fills.get(key) is fill:
                del self._fills[key]
            del self._tasks[fill]
            seconds = time.monotonic() - began
            if (event := event_of(state, ended_with, seconds)) is not None:
                self._hook(event)
