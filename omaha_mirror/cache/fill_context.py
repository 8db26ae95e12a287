"""What fills use of the cache that they belong to: drafts for their bytes, turns on the line, memories of blobs.

One for all fills of a cache. It owns `growing` and the reservations of growing blobs; a fill opens a draft once, may then
ask for room, says when it repairs a blob, and is released by the cache at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from omaha_mirror.cache import events
from omaha_mirror.cache.errors import Damaged, NoSpace
from omaha_mirror.cache.failures import Failures
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill_state import FillState
from omaha_mirror.cache.heads import Heads
from omaha_mirror.cache.index import Index
from omaha_mirror.cache.memory_draft import MemoryDraft
from omaha_mirror.cache.space import Ledger, Space
from omaha_mirror.cache.store import Draft


@dataclass(eq=False)
class FillContext:
    """Of one cache.

    Attributes:
        scheduler: what the fills share.
        hook: called with what happens.
        failures: remembers what turned out wrong.
        heads: remembers the head of a blob that is proven.
        index: the proven blobs.
        ledger: the space accounts.
        space: makes room.
        corrupted: called with the key of a proven blob that is none any more, and why.
        growing: the fills whose bytes go to the disk, by the keys of their blobs.
    """

    scheduler: FetchScheduler
    hook: events.Hook
    failures: Failures
    heads: Heads
    index: Index
    ledger: Ledger
    space: Space
    corrupted: Callable[[str, str], None]
    growing: dict[str, FillState] = field(default_factory=dict)

    async def open_draft(self, state: FillState) -> Draft:
        """A place for the bytes: on the disk, or where there is no room or no disk, in passing."""
        expected, reason = state.expected, "another fill of the same blob is under way"
        if self.index.is_unavailable(expected.key):
            reason = "the cache directory does not answer"
        elif expected.key not in self.growing:
            self.growing[expected.key] = state
            self.update_ledger()
            try:
                if state.is_recheck and (found := await self._found(state)) is not None:
                    return found
                await self._clear_place(expected.key)
                return await self.space.draft(expected)
            except (NoSpace, OSError) as error:
                reason = str(error)
                del self.growing[expected.key]
        state.is_recheck = False
        self.hook(events.Uncached(expected.key, state.source.name, reason))
        return MemoryDraft(expected, state.limits.spool)

    async def _found(self, state: FillState) -> Draft | None:
        """The blob that is to be proven again; None where there is none after all."""
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
        """A blob that is being proven again lacks bytes: it is a growing one from now on."""
        key = state.expected.key
        if not self.index.is_verified(key):
            self.index.forget(key)
        if self.growing.get(key) is state:
            self.ledger.reserve(key, state.size, state.size)

    async def _clear_place(self, key: str) -> None:
        """What lies where a blob is to be, and is none, is put aside."""
        if not self.index.holds(key):
            if self.index.lists(key):
                self.corrupted(key, "it is no file of the size that was written down")
            self.index.forget(key)
            await self.space.quarantine(key, leaked=False)

    def release(self, state: FillState) -> None:
        """A fill has ended."""
        key = state.expected.key
        if self.growing.get(key) is state:
            del self.growing[key]
            self.ledger.release(key)

    async def make_room(self) -> bool:
        """The disk is fuller than it was; whether anything could be freed."""
        self.update_ledger()
        return await self.space.make_room()

    def update_ledger(self) -> None:
        """Note what the fills have written."""
        for key, state in self.growing.items():
            self.ledger.wrote(key, state.filled.total)
