"""Room on the disk: booked before a byte is fetched, made by evicting what was used longest ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from omaha_mirror.aio.finish import in_worker
from omaha_mirror.aio.workers import BLOBS, SLOW
from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Expected
from omaha_mirror.cache.clock import Clock
from omaha_mirror.cache.errors import NoRoom
from omaha_mirror.cache.inventory import Leftover, Removed, Swept
from omaha_mirror.cache.ledger import Ledger
from omaha_mirror.cache.store import Draft, Store

STALE = 7 * 86400.0
"""Seconds after which a growing blob that nobody fills, and bytes that were put aside, have lain long enough."""


class Room:
    """Opens drafts, and removes blobs for them.

    Args:
        store: where blobs are kept.
        ledger: the books of the same place.
        hook: told what is evicted.
        must_stay: whether a proven blob must not be evicted.
        goes: told of a blob that is about to be removed.
        clock: tells the time.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        hook: events.Hook,
        must_stay: Callable[[str], bool],
        goes: Callable[[str], object],
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._hook = hook
        self._must_stay = must_stay
        self._goes = goes
        self._clock = clock
        self._busy = asyncio.Lock()

    async def draft(self, expected: Expected) -> Draft:
        """Book room for a blob, and open its place. Raises NoRoom, OSError."""
        async with self._busy:
            written = await BLOBS.patiently(None, self._store.begun, expected.key)
            await self._book(expected.key, expected.size, written)
            try:
                return await BLOBS.patiently(SLOW, self._store.draft, expected)
            except BaseException:
                self._ledger.release(expected.key)
                raise

    async def book(self, key: str, size: int) -> None:
        """Book `size` bytes for what has no draft. Raises NoRoom, OSError."""
        async with self._busy:
            await self._book(key, size, 0)

    async def _book(self, key: str, size: int, written: int) -> None:
        free, files = await BLOBS.patiently(None, self._left)
        victims = self._ledger.victims(
            size, free=free, keep=self._must_stay, written=written, files=files
        )
        self._ledger.reserve(key, size, written)
        try:
            await self._evict(victims)
        except BaseException:
            self._ledger.release(key)
            raise

    def _left(self) -> tuple[int, int | None]:
        """Bytes and files that the disk can still take. Raises OSError."""
        return self._store.free(), self._store.files()

    async def recheck(self, expected: Expected) -> Draft:
        """Open a blob that was proven once; its room stays booked. Raises Damaged, OSError."""
        async with self._busy:
            return await BLOBS.patiently(SLOW, self._store.recheck, expected)

    async def make(self) -> bool:
        """The disk is fuller than it was: free what is booked and not written; whether anything was freed."""
        async with self._busy:
            try:
                free, files = await BLOBS.patiently(None, self._left)
                victims = self._ledger.victims(0, free=free, keep=self._must_stay, files=files)
                await self._evict(victims)
            except (NoRoom, OSError):
                return False
            return bool(victims)

    async def sweep(self, filling: Container[str], *, dry_run: bool) -> Swept:
        """Remove stale leftovers, and evict down to the bounds of the books.

        Args:
            filling: keys that are being filled.
            dry_run: remove nothing, only tell.

        Raises:
            OSError: the disk failed.
        """
        async with self._busy:
            found, now = await in_worker(self._store.leftovers), self._clock.stamp()
            stale = [
                x for x in found if self._clock.age(x.changed) > STALE and x.key not in filling
            ]
            free = await in_worker(self._store.free) + sum(leftover.size for leftover in stale)
            victims, short = self._surplus(free)
            removed = [
                *(Removed(leftover.kind, leftover.key, leftover.size) for leftover in stale),
                *(Removed("blob", key, self._ledger.entries[key].size) for key in victims),
            ]
            if not dry_run:
                await self._evict(victims)
                await in_worker(self._discard, stale)
                await in_worker(self._store.marks)
                await in_worker(self._redate, [x for x in found if x.changed > now], now)
            return Swept(tuple(removed), short)

    def _surplus(self, free: int) -> tuple[list[str], str]:
        try:
            return self._ledger.victims(0, free=free, keep=self._must_stay), ""
        except NoRoom as error:
            return [], str(error)

    async def remove(self, key: str, size: int | None) -> Removed | None:
        """Remove a blob of `size` bytes that is out of the books, and what there is of a growing one. Raises OSError."""
        async with self._busy:
            found = await in_worker(self._store.leftovers)
            growing = [x for x in found if x.kind == "partial" and x.key == key]
            await in_worker(self._discard, growing)
            if size is not None:
                self._goes(key)
                await in_worker(self._store.remove, key)
                return Removed("blob", key, size)
            return Removed("partial", key, growing[0].size) if growing else None

    async def condemn(self, key: str, *, leaked: bool) -> None:
        """Put a blob aside that is out of the books. Raises OSError."""
        async with self._busy:
            await BLOBS.patiently(None, self._store.condemn, key, leaked=leaked)

    def _discard(self, leftovers: list[Leftover]) -> None:
        for leftover in leftovers:
            self._store.discard(leftover)

    def _redate(self, leftovers: list[Leftover], now: float) -> None:
        for leftover in leftovers:
            self._store.redate(leftover, now)

    async def _evict(self, keys: list[str]) -> None:
        for key in keys:
            self._hook(events.Evicted(key, self._ledger.entries[key].size))
            self._ledger.remove(key)
            self._goes(key)
        for key in keys:
            await BLOBS.patiently(SLOW, self._store.remove, key)
