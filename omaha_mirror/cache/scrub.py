"""Verifies blobs at rest again: disks corrupt bytes.

`verify` only reads; a `Verifier` acts on the result, one caller at a time for each blob: a wrong blob is put aside, its readers
are cut, and the next request fetches it again. A `Scrubber` verifies the blobs that are due, slowly and in the background.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO
from weakref import WeakValueDictionary

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import WORK
from omaha_mirror.cache.blob import Expected, Hasher
from omaha_mirror.cache.cache import Cache
from omaha_mirror.cache.errors import Damaged, is_unreadable
from omaha_mirror.cache.inventory import LastVerified
from omaha_mirror.cache.page_cache import READ, resident
from omaha_mirror.cache.store import Facts, Identity, Store, identity

WEEK = 7 * 86400.0
IDLE = 3600.0
SCRUB_RATE = 16 * 1024 * 1024

Pace = Callable[[int], Awaitable[object]]
"""Awaited after each read with its count of bytes: how fast it may go on."""


class VerifyOutcome(StrEnum):
    """The result of reading a blob again."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A blob that was read again: the bytes read, and what is wrong or why that is not known ("" where it is right)."""

    key: str
    size: int
    outcome: VerifyOutcome
    reason: str = ""


async def at_once(_: int) -> None:
    """A `Pace` without a pause."""


async def verify(store: Store, key: str, pace: Pace = at_once) -> VerifyResult:
    """Read a proven blob and compare its digests with its key and its sidecar; changes nothing.

    A blob that is gone, or cannot be read any more (EIO), is wrong; after other errors the result is not known.
    """
    return (await _read_again(store, key, pace))[0]


async def _read_again(store: Store, key: str, pace: Pace) -> tuple[VerifyResult, Identity | None]:
    """The result, and the file that was read."""
    read, found = 0, None
    try:
        facts = await in_worker(store.describe, key)
        file = await in_worker(store.open, key)
        try:
            found = identity(file)
            hasher = Hasher(_expected(key, facts, found.size))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            while count := await in_worker(_examine, file, hasher):
                read += count
                await pace(count)
            if identity(file) != found:
                return VerifyResult(
                    key, read, VerifyOutcome.UNKNOWN, "was written while it was read"
                ), None
        finally:
            file.close()
    except FileNotFoundError:
        return VerifyResult(key, read, VerifyOutcome.WRONG, "the file is gone"), None
    except Damaged as error:
        return VerifyResult(key, read, VerifyOutcome.WRONG, str(error)), None
    except OSError as error:
        outcome = VerifyOutcome.WRONG if is_unreadable(error) else VerifyOutcome.UNKNOWN
        return VerifyResult(key, read, outcome, f"cannot be read: {error.strerror}"), None
    judged = hasher.judge()
    if isinstance(judged, str):
        return VerifyResult(key, read, VerifyOutcome.WRONG, judged), found
    return VerifyResult(key, read, VerifyOutcome.RIGHT), found


def _expected(key: str, facts: Facts, size: int) -> Expected:
    """The key gives one digest; the sidecar, where it can be read, the size and the other."""
    size = facts.size if facts.size is not None else size
    if key.startswith("sha1-"):
        return Expected(size, facts.sha256, bytes.fromhex(key.removeprefix("sha1-")))
    return Expected(size, bytes.fromhex(key))


def _examine(file: BinaryIO, hasher: Hasher) -> int:
    """Hash a few bytes, in a worker, and leave the page cache as it was. Gives the number of bytes."""
    fd, at = file.fileno(), hasher.position
    warm = resident(fd, at, READ)
    data = os.pread(fd, READ, at)
    hasher.update(data)
    if not warm:
        os.posix_fadvise(fd, at, len(data), os.POSIX_FADV_DONTNEED)
    return len(data)


class Verifier:
    """Verifies the blobs of a cache, each by one caller at a time.

    Args:
        cache: whose blobs.
        store: where they are kept.
    """

    def __init__(self, cache: Cache, store: Store) -> None:
        self._cache = cache
        self._store = store
        self._clock = cache.clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def verify(self, key: str, pace: Pace = at_once) -> VerifyResult | None:
        """Read a blob again and act on the result; None where there is no such blob."""
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            if not self._cache.lists(key):
                return None
            with self._cache.busy(key):
                result, found = await _read_again(self._store, key, pace)
            match result.outcome:
                case VerifyOutcome.WRONG:
                    await self._cache.quarantine(key, result.reason)
                case VerifyOutcome.RIGHT:
                    await self._cache.verified(key, found)
                    await in_worker(self._store.verified, key, self._clock.time())
            return result

    async def verify_all(self, keys: Iterable[str] | None = None) -> AsyncGenerator[VerifyResult]:
        """Verify these blobs, or all: first those whose last verification is longest ago."""
        if keys is None:
            blobs = await self._cache.verifications()
            keys = await WORK.call(lambda: [blob.key for blob in sorted(blobs, key=_age)])
        for key in keys:
            if (result := await self.verify(key)) is not None:
                yield result


class Scrubber:
    """Reads all blobs again in the background, one after the other and slowly.

    Args:
        verifier: of the cache.
        cache: whose blobs.
        tell: called with each result.
        rate: bytes a second.
        every: seconds after which a blob is due again.
    """

    def __init__(
        self,
        verifier: Verifier,
        cache: Cache,
        tell: Callable[[VerifyResult], None],
        *,
        rate: float = SCRUB_RATE,
        every: float = WEEK,
    ) -> None:
        self._verifier = verifier
        self._cache = cache
        self._clock = cache.clock
        self._tell = tell
        self._rate = rate
        self._every = every
        self._tried: dict[str, float] = {}
        """When each was last tried, by `Clock.boottime`: a verification that could not be recorded counts as well."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                wait = await self._pass()
            except OSError as error:
                self._tell(VerifyResult("", 0, VerifyOutcome.UNKNOWN, str(error)))
                wait = IDLE
            await asyncio.sleep(wait)

    async def _pass(self) -> float:
        """Collect garbage, and verify all blobs that are due; gives the seconds until the next one is. Raises OSError."""
        await self._cache.gc(dry_run=False)
        blobs = await self._cache.verifications()
        for blob in await WORK.call(self._due, blobs):
            await self._look_at(blob.key)
        return max(1.0, await WORK.call(lambda: min([IDLE, *map(self._due_in, blobs)])))

    def _due(self, blobs: Sequence[LastVerified]) -> list[LastVerified]:
        """The blobs that are due, the one with the oldest verification first; forgets blobs that are gone."""
        self._tried = {b.key: self._tried[b.key] for b in blobs if b.key in self._tried}
        return sorted((blob for blob in blobs if self._due_in(blob) <= 0), key=_age)

    def _due_in(self, blob: LastVerified) -> float:
        """Seconds until a blob is due; a verification in the future does not count."""
        left = self._every - self._clock.age(blob.verified)
        if blob.verified > self._clock.stamp():
            left = 0.0
        if (tried := self._tried.get(blob.key)) is not None:
            left = max(left, tried + self._every - self._clock.boottime())
        return left

    async def _look_at(self, key: str) -> None:
        self._tried[key] = self._clock.boottime()
        result = await self._verifier.verify(key, self._pause)
        if result is not None:
            self._tell(result)

    async def _pause(self, count: int) -> None:
        await asyncio.sleep(count / self._rate)


def _age(blob: LastVerified) -> float:
    return blob.verified
