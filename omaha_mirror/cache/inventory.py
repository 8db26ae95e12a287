"""The contents of a cache at one moment, for people and for maintenance, and `look`, which collects them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.space import Entry, Ledger
from omaha_mirror.cache.store import Facts, Leftover, Store

AT_A_TIME = 500
"""Blobs of which it is found out at once whether they stay."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A proven blob.

    Attributes:
        key: its name in the cache.
        size: in bytes.
        last_used: in seconds since the epoch.
        verified: likewise, when its bytes were last found right.
        proven_by: by which digest.
        signed_by: the id of the key that signed it, or "".
        source: the URL that it came from.
        readers: how many read it now.
        offered: whether it stays without readers.
    """

    key: str
    size: int
    last_used: float
    verified: float
    proven_by: str
    signed_by: str
    source: str
    readers: int
    offered: bool


class LastVerified(NamedTuple):
    """When the bytes of a proven blob were last found right, in seconds since the epoch: 0 where that is not known."""

    key: str
    verified: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A fill under way: bytes, bytes a second, how many readers follow it, and its place in the queue (0: it runs)."""

    key: str
    source: str
    size: int
    filled: int
    rate: float
    readers: int
    queued: int


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a cache: the blobs, last used first, and the space accounts (in bytes).

    Attributes:
        blobs: the proven ones.
        leftovers: growing blobs and bytes that were put aside.
        used: of proven blobs and reservations.
        max_size: that these may take together.
        free: on the file system.
        min_free: that must stay free there.
        count: how many proven blobs there are, described or not.
    """

    blobs: tuple[Blob, ...]
    leftovers: tuple[Leftover, ...]
    used: int
    max_size: int
    free: int
    min_free: int
    count: int


def last_verified(store: Store, keys: Iterable[str]) -> list[LastVerified]:
    """When each of these blobs was last found right. Blocks. Raises OSError."""
    found = store.verifications()
    return [LastVerified(key, found.get(key, 0.0)) for key in keys]


async def look(
    store: Store,
    ledger: Ledger,
    readers: Mapping[str, int],
    keep: Callable[[str], bool],
    most: int | None = None,
) -> Contents:
    """What is in a cache now.

    Args:
        store: where it is kept.
        ledger: its space accounts.
        readers: how many read a blob, by its key.
        keep: whether a blob stays without readers.
        most: how many blobs are described, the last used ones; None for all.

    Raises:
        OSError: the disk failed.
    """
    leftovers = await in_worker(store.leftovers)
    free = await in_worker(store.free)
    entries = list(ledger.entries.items())
    shown = (await in_worker(sorted, entries, key=_last_used, reverse=True))[:most]
    offered, used_now = await _kept([key for key, _ in shown], keep), dict(readers)

    def describe() -> tuple[Blob, ...]:
        """This takes seconds where there are many."""
        return tuple(
            _blob(key, entry, store.describe(key), used_now.get(key, 0), key in offered)
            for key, entry in shown
        )

    blobs, used = await in_worker(describe), (ledger.used, ledger.max_size)
    return Contents(blobs, tuple(leftovers), *used, free, ledger.min_free, len(entries))


def _last_used(item: tuple[str, Entry]) -> float:
    return item[1].last_used


async def _kept(keys: Sequence[str], keep: Callable[[str], bool]) -> set[str]:
    """Which of the blobs stay: some at a time, as it is the event loop that knows."""
    kept = set[str]()
    for at in range(0, len(keys), AT_A_TIME):
        if at:
            await asyncio.sleep(0)
        kept.update(filter(keep, keys[at : at + AT_A_TIME]))
    return kept


def _blob(key: str, entry: Entry, facts: Facts, readers: int, offered: bool) -> Blob:
    return Blob(
        key,
        entry.size,
        entry.last_used,
        facts.verified,
        facts.proven_by,
        facts.signed_by,
        facts.source,
        readers,
        offered,
    )
