"""The parts of a cache that its fills use, and the drafts of growing blobs with their reservations.

One for all fills of a cache. It owns `growing` and the reservations of growing blobs. A fill calls `open_draft` once, then
`make_room` and `repair` as needed; the cache calls `release` at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache import events
from omaha_mirror.cache.errors import Damaged, NoSpace
from omaha_mirror.cache.failures import Failures
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill_state import FillState
from omaha_mirror.cache.heads import Heads
from omaha_mirror.cache.index import Index
from omaha_mirror.cache.intervals import NOTHING
from omaha_mirror.cache.memory_draft import MemoryDraft
from omaha_mirror.cache.space import Ledger, Space
from omaha_mirror.cache.store import Draft, Store


@dataclass(eq=False)
class FillContext:
    """Of one cache.

    Attributes:
        scheduler: shares the bandwidth between the fills.
        hook: called with each event.
        failures: the blobs that turned out wrong.
        heads: of the blobs that were proven.
        index: the proven blobs.
        ledger: the space accounts.
        space: makes room.
        corrupted: called with the key of a blob that turned out damaged, and why.
        store: of the blobs.
        growing: the fills that write to the disk, by the keys of their blobs.
        inherited: the keys of the drafts on the disk that an earlier process left, and this one has not opened yet.
        immovable: why damaged blobs could not be put aside at the last try, by their keys.
    """

    scheduler: FetchScheduler
    hook: events.Hook
    failures: Failures
    heads: Heads
    index: Index
    ledger: Ledger
    space: Space
    corrupted: Callable[[str, str], None]
    store: Store
    growing: dict[str, FillState] = field(default_factory=dict)
    inherited: set[str] = field(default_factory=set)
    immovable: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        """Take up what an earlier process left. Raises OSError."""
        left = await in_worker(self.store.leftovers)
        self.inherited.update(one.key for one in left if one.kind == "partial")
        marks = await in_worker(self.store.marks)
        self.failures.load(marks, await in_worker(self.store.refusals))

    async def open_draft(self, state: FillState) -> Draft:
        """A draft on the disk, or in memory where the disk has no room or fails."""
        expected, reason = state.expected, "another fill of the same blob is under way"
        if self.index.is_unavailable(expected.key):
            reason = "its place in the cache directory cannot be used at present"
        elif expected.key not in self.growing:
            self.growing[expected.key] = state
            self.update_ledger()
            try:
                if state.is_recheck and (found := await self._found(state)) is not None:
                    return found
                await self._clear_place(expected.key)
                return self._gone_on_with(await self.space.draft(expected))
            except (NoSpace, OSError) as error:
                reason = str(error)
                del self.growing[expected.key]
        state.is_recheck = False
        self._disown(expected.key)
        self.hook(events.Uncached(expected.key, state.source.name, reason))
        return self.in_memory(state)

    def _gone_on_with(self, draft: Draft) -> Draft:
        """Where it is torn, nobody can tell which of the bytes that are gone had been sent."""
        if draft.is_torn:
            self._disown(draft.expected.key)
        self.inherited.discard(draft.expected.key)
        return draft

    def _disown(self, key: str) -> None:
        """Others come in place of bytes that an earlier process may have sent, and nobody can tell which these were."""
        if key in self.inherited:
            self.failures.mark_resume_unsafe(key)
        self.inherited.discard(key)

    def in_memory(self, state: FillState, under: Draft | None = None) -> MemoryDraft:
        """A draft in memory, above one that the disk refused to go on with."""
        key, kept = state.expected.key, state.filled if under is not None else NOTHING
        mark, unmark = partial(self.store.mark, key), partial(self._unmark, key)
        return MemoryDraft(state.expected, state.limits.spool, under, kept, mark, unmark)

    def _unmark(self, key: str) -> None:
        if not self.failures.is_resume_unsafe(key):
            self.store.unmark(key)

    async def _found(self, state: FillState) -> Draft | None:
        """The draft of a blob that is verified again; None where its file is gone or damaged."""
        key = state.expected.key
        try:
            return await self.space.recheck(state.expected)
        except FileNotFoundError:
            self.index.forget(key)
        except Damaged as error:
            self.index.forget(key)
            self.corrupted(key, str(error))
        state.is_recheck = False
        return None

    def repair(self, state: FillState) -> None:
        """Make a blob that is verified again, and has wrong bytes, a growing one."""
        key = state.expected.key
        if not self.index.is_verified(key):
            self.index.forget(key)
        if self.growing.get(key) is state:
            self.ledger.reserve(key, state.size, state.size)

    async def _clear_place(self, key: str) -> None:
        """Put aside the file of a blob that may not be served, before it is fetched anew."""
        if not self.index.holds(key):
            if self.index.lists(key):
                self.corrupted(key, "it is no file of the size that was written down")
            self.index.forget(key)
            self.immovable.pop(key, None)
            try:
                await self.space.quarantine(key, leaked=False)
            except OSError as error:
                if not isinstance(error, Hangs):
                    self.immovable[key] = f"cannot be put aside: {error}"
                raise

    def release(self, state: FillState) -> None:
        """End the reservation of a fill."""
        key = state.expected.key
        if self.growing.get(key) is state:
            del self.growing[key]
            self.ledger.release(key)

    async def make_room(self) -> bool:
        """Evict blobs for a disk that is full; whether there was one to evict."""
        self.update_ledger()
        return await self.space.make_room()

    def update_ledger(self) -> None:
        """Note in the ledger how much the fills have written."""
        for key, state in self.growing.items():
            self.ledger.wrote(key, state.filled.total)
