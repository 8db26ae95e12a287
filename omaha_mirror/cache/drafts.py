"""Where the bytes of fills go: on the disk, one fill of a blob at a time, or in passing."""

from __future__ import annotations

from collections.abc import Callable

from omaha_mirror.cache import events
from omaha_mirror.cache.errors import Damaged, NoSpace
from omaha_mirror.cache.fill_state import FillState
from omaha_mirror.cache.index import Index
from omaha_mirror.cache.space import Ledger, Space
from omaha_mirror.cache.spool import SpoolDraft
from omaha_mirror.cache.store import Draft


class Drafts:
    """Gives drafts, and keeps the books of those on the disk.

    Args:
        ledger: the books.
        space: makes room.
        index: the proven blobs.
        hook: told what cannot be kept.
        corrupted: told of a proven blob that is none any more, and why.

    Attributes:
        taken: the fills whose bytes go to the disk, by the keys of their blobs.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        index: Index,
        hook: events.Hook,
        corrupted: Callable[[str, str], None],
    ) -> None:
        self.taken: dict[str, FillState] = {}
        self._ledger = ledger
        self._space = space
        self._index = index
        self._hook = hook
        self._corrupted = corrupted

    async def open(self, state: FillState) -> Draft:
        """A place for the bytes: on the disk, or where there is no room or no disk, in passing."""
        expected, reason = state.expected, "another fill of the same blob is under way"
        if self._index.is_away(expected.key):
            reason = "the cache directory does not answer"
        elif expected.key not in self.taken:
            self.taken[expected.key] = state
            self.update_books()
            try:
                if state.checks and (found := await self._found(state)) is not None:
                    return found
                await self._make_way(expected.key)
                return await self._space.draft(expected)
            except (NoSpace, OSError) as error:
                reason = str(error)
                del self.taken[expected.key]
        state.checks = False
        self._hook(events.Uncached(expected.key, state.source.name, reason))
        return SpoolDraft(expected, state.limits.spool)

    async def _found(self, state: FillState) -> Draft | None:
        """The blob that is to be proven again; None where there is none after all."""
        key = state.expected.key
        try:
            return await self._space.recheck(state.expected)
        except FileNotFoundError:
            self._index.take(key)
        except Damaged as error:
            self._index.take(key)
            self._corrupted(key, str(error))
        state.checks = False
        return None

    def repair(self, state: FillState) -> None:
        """A blob that is being proven again lacks bytes: it is a growing one from now on."""
        key = state.expected.key
        if not self._index.is_verified(key):
            self._index.take(key)
        if self.taken.get(key) is state:
            self._ledger.reserve(key, state.size, state.size)

    async def _make_way(self, key: str) -> None:
        """What lies where a blob is to be, and is none, is put aside."""
        if not self._index.holds(key):
            if self._index.lists(key):
                self._corrupted(key, "it is no file of the size that was written down")
            self._index.take(key)
            await self._space.quarantine(key, leaked=False)

    def release(self, state: FillState) -> None:
        """A fill has ended."""
        key = state.expected.key
        if self.taken.get(key) is state:
            del self.taken[key]
            self._ledger.release(key)

    async def make_room(self) -> bool:
        """The disk is fuller than it was; whether anything could be freed."""
        self.update_books()
        return await self._space.make()

    def update_books(self) -> None:
        """Note what the fills have written."""
        for key, state in self.taken.items():
            self._ledger.wrote(key, state.filled.total)
