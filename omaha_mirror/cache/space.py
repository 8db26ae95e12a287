"""Space on the disk: its accounts, eviction for more, and which blobs are in use.

`Ledger` is pure (times are passed in) and owns the accounts: `reserve`, `wrote`, then `settle` or `release`. `Space` reserves and
evicts for one caller at a time, and opens drafts. `Uses` counts the readers and fetchers of each blob.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import finish, in_worker
from omaha_mirror.aio.workers import BLOBS, SLOW
from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Expected
from omaha_mirror.cache.errors import InUse, NeverFits, NoSpace, NoSpaceNow
from omaha_mirror.cache.store import Draft, Leftover, Removed, Store, Swept

FILES = 4
"""Files that a fill makes at most: its data, its journal, a sidecar, a folder."""
SLOWEST = 2 * 1024 * 1024
"""Bytes a second that the slowest disk reads."""
FILES_OF_BLOB = 2
"""Files of a blob: its data and its sidecar."""


@dataclass(slots=True)
class Entry:
    """A proven blob: bytes on disk, and when it was last used (seconds since the epoch)."""

    size: int
    last_used: float


@dataclass(slots=True)
class Reservation:
    """The space of a fill: its whole size counts from the start; `written` of it is on the disk already."""

    size: int
    written: int = 0


class Ledger:
    """The accounts of one cache directory.

    Args:
        max_size: bytes that blobs and reservations may take together.
        min_free: bytes that must stay free on the file system.
    """

    def __init__(self, max_size: int, min_free: int) -> None:
        self.max_size = max_size
        self.min_free = min_free
        self.entries: dict[str, Entry] = {}
        self.reserved: dict[str, Reservation] = {}
        self._proven = 0

    @property
    def used(self) -> int:
        """Bytes of proven blobs and reservations."""
        return self._proven + sum(booked.size for booked in self.reserved.values())

    def _promised(self) -> int:
        """Bytes that are reserved and not on disk yet."""
        return sum(max(0, booked.size - booked.written) for booked in self.reserved.values())

    def victims(
        self,
        size: int,
        *,
        free: int,
        keep: Callable[[str], bool],
        written: int = 0,
        files: int | None = None,
    ) -> list[str]:
        """Which blobs must go so that `size` more bytes fit, least recently used first.

        Args:
            size: bytes that are to be reserved.
            written: how many of them are on disk already.
            free: bytes that the file system has left now.
            keep: whether a blob must stay (in use, pinned, now offered).
            files: how many more the file system can take (inodes); None where it has no such number.

        Raises:
            NeverFits: larger than the whole cache may be.
            NoSpaceNow: the blobs that may go are not enough.
        """
        if size > (most := self.max_size):
            raise NeverFits(f"{size} bytes do not fit into a cache of at most {most} bytes")
        over = self.used + size - most
        short = max(0, size - written) + self._promised() + self.min_free - free
        few = 0 if files is None else FILES * (len(self.reserved) + bool(size)) - files
        gone: list[str] = []
        if over <= 0 and short <= 0 and few <= 0:
            return gone
        oldest_first = [(entry.last_used, key) for key, entry in self.entries.items()]
        heapify(oldest_first)
        while oldest_first and (over > 0 or short > 0 or few > 0):
            _, key = heappop(oldest_first)
            if keep(key):
                continue
            gone.append(key)
            over -= self.entries[key].size
            short -= self.entries[key].size
            few -= FILES_OF_BLOB
        _require(over, short, few, files)
        return gone

    def reserve(self, key: str, size: int, written: int = 0) -> None:
        """Reserve space for a fill."""
        self.reserved[key] = Reservation(size, written)

    def wrote(self, key: str, total: int) -> None:
        """Note that `total` bytes of a reservation are on disk."""
        if key in self.reserved:
            self.reserved[key].written = total

    def release(self, key: str) -> None:
        """End a reservation."""
        self.reserved.pop(key, None)

    def settle(self, key: str, size: int, now: float) -> None:
        """Enter a proven blob; a reservation under the same key ends."""
        self.release(key)
        self.remove(key)
        self.entries[key] = Entry(size, now)
        self._proven += size

    def touch(self, key: str, now: float) -> None:
        """Note a use."""
        if key in self.entries:
            self.entries[key].last_used = max(now, self.entries[key].last_used)

    def remove(self, key: str) -> None:
        """Take out a blob."""
        if (entry := self.entries.pop(key, None)) is not None:
            self._proven -= entry.size


def _require(over: int, short: int, few: int, files: int | None) -> None:
    """Raise NoSpaceNow where bytes of the cache, bytes of the disk, or files are still lacking."""
    if over > 0:
        raise NoSpaceNow(f"{over} bytes over max_size, and all other blobs are in use or offered")
    if short > 0:
        raise NoSpaceNow(f"the disk is {short} bytes short of keeping min_free free")
    if few > 0:
        raise NoSpaceNow(f"the file system of the disk can take {files} more files (inodes)")


STALE = 7 * 86400.0
"""Seconds after which a growing blob without a fill, and bytes that were put aside, are removed."""


class Space:
    """Opens drafts, and removes blobs for them.

    Args:
        store: where blobs are kept.
        ledger: the space accounts of the same directory.
        hook: called with what is evicted.
        must_stay: whether a proven blob must not be evicted.
        forget: called with the key of a blob whose file was removed; takes it out of the ledger, too.
        clock: tells the time.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        hook: events.Hook,
        must_stay: Callable[[str], bool],
        forget: Callable[[str], object],
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._hook = hook
        self._must_stay = must_stay
        self._forget = forget
        self._clock = clock
        self._busy = asyncio.Lock()

    async def draft(self, expected: Expected) -> Draft:
        """Reserve space for a blob, and open its draft. Raises NoSpace, OSError.

        Opening reads back all that was recorded of the draft; other callers are served meanwhile.
        """
        async with self._busy:
            written = await BLOBS.patiently(None, self._store.begun, expected.key)
            await self._book(expected.key, expected.size, written)
        try:
            patience = SLOW + written / SLOWEST
            return await BLOBS.patiently(patience, self._store.draft, expected)
        except BaseException:
            self._ledger.release(expected.key)
            raise

    async def book(self, key: str, size: int) -> None:
        """Reserve `size` bytes without a draft. Raises NoSpace, OSError."""
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
        """How many more bytes and files the disk can take. Raises OSError."""
        return self._store.free(), self._store.files()

    async def recheck(self, expected: Expected) -> Draft:
        """Open a proven blob to verify it again; it stays in the ledger. Raises Damaged, OSError."""
        async with self._busy:
            return await BLOBS.patiently(SLOW, self._store.recheck, expected)

    async def make_room(self) -> bool:
        """Evict until the disk has room for all reservations; whether anything was evicted."""
        async with self._busy:
            try:
                free, files = await BLOBS.patiently(None, self._left)
                victims = self._ledger.victims(0, free=free, keep=self._must_stay, files=files)
                await self._evict(victims)
            except (NoSpace, OSError):
                return False
            return bool(victims)

    async def sweep(self, filling: Container[str], *, dry_run: bool) -> Swept:
        """Remove stale leftovers, and evict down to the bounds of the ledger.

        Args:
            filling: keys of the running fills.
            dry_run: remove nothing.

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
                await in_worker(self._clean, stale, [x for x in found if x.changed > now], now)
            return Swept(tuple(removed), short)

    def _surplus(self, free: int) -> tuple[list[str], str]:
        try:
            return self._ledger.victims(0, free=free, keep=self._must_stay), ""
        except NoSpace as error:
            return [], str(error)

    async def remove(self, key: str, is_in_use: Callable[[str], bool]) -> Removed | None:
        """Remove a blob, and what there is of a growing one. Raises InUse, OSError."""
        async with self._busy:
            found = await in_worker(self._store.leftovers)
            growing = next((x for x in found if x.kind == "partial" and x.key == key), None)
            if is_in_use(key):
                raise InUse(f"{key} is in use")
            if growing is not None:
                await in_worker(self._store.discard, growing)
            if (entry := self._ledger.entries.get(key)) is not None:
                await in_worker(self._store.remove, key)
                self._forget(key)
                return Removed("blob", key, entry.size)
            return Removed("partial", key, growing.size) if growing is not None else None

    async def quarantine(self, key: str, *, leaked: bool) -> None:
        """Put a blob aside that is out of the ledger. Raises OSError."""
        async with self._busy:
            await BLOBS.patiently(None, self._store.quarantine_blob, key, leaked=leaked)

    def _clean(self, stale: list[Leftover], future: list[Leftover], now: float) -> None:
        for leftover in stale:
            self._store.discard(leftover)
        self._store.marks()
        for leftover in future:
            self._store.redate(leftover, now)

    async def _evict(self, keys: list[str]) -> None:
        """Remove blobs; a file that the disk does not remove stays in the ledger."""
        for key in keys:
            await finish(self._evict_one(key))

    async def _evict_one(self, key: str) -> None:
        await BLOBS.patiently(SLOW, self._store.remove, key)
        if (entry := self._ledger.entries.get(key)) is not None:
            self._hook(events.Evicted(key, entry.size))
            self._forget(key)


class Uses:
    """The blobs in use, by their keys.

    Attributes:
        readers: how many readers each has.
    """

    def __init__(self) -> None:
        self.readers: Counter[str] = Counter()
        self._fetchers: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()

    def is_used(self, key: str) -> bool:
        """Whether a blob is read, or kept busy."""
        return key in self.readers or key in self._busy

    def is_fetched(self, key: str) -> bool:
        """Whether a caller of `Cache.fetch` waits for a blob."""
        return key in self._fetchers

    def fetching(self, key: str) -> AbstractContextManager[None]:
        """Count a caller of `Cache.fetch` while this is open."""
        return _counted(self._fetchers, key)

    def busy(self, key: str) -> AbstractContextManager[None]:
        """Keep a blob from being evicted or removed while this is open."""
        return _counted(self._busy, key)


@contextmanager
def _counted(users: Counter[str], key: str) -> Iterator[None]:
    users[key] += 1
    try:
        yield
    finally:
        users[key] -= 1
        if not users[key]:
            del users[key]
