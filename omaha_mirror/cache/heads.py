"""The `Head` of each blob that was proven, kept for its next fill when the blob itself is evicted or not kept.

A client that resumes takes the head of a blob without hashing it. Where the head is known, it can be sent before the rest is
there. It follows from the blob's digest, so a recorded one never becomes wrong. `load` comes first. It owns the heads, and
`_unwritten`, the keys of those that are not on the disk yet.
"""

from __future__ import annotations

import contextlib
import os

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.blob import Expected, Head, Proof
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.prover import Provers, Read
from omaha_mirror.cache.store import Store

HEADS = 1000
"""How many are kept, the newest ones."""


class Heads:
    """By the key of the blob.

    Args:
        store: where they are recorded.
        provers: find the head of a blob.
    """

    def __init__(self, store: Store, provers: Provers) -> None:
        self._provers = provers
        self._store = store
        self._heads: dict[str, Head] = {}
        self._unwritten: set[str] = set()

    async def load(self) -> None:
        """Read the recorded heads, oldest first; none where the disk fails."""
        with contextlib.suppress(OSError):
            self._heads = await in_worker(self._store.heads)

    def get(self, key: str) -> Head | None:
        """The head of a blob; None where it is not known."""
        return self._heads.get(key)

    async def size(self, expected: Expected, read: Read) -> int:
        """The size of the head of a blob, which `read` reads, in bytes; 0 where it has none. Raises OSError."""
        head = self.get(expected.key)
        return head.size if head else await in_worker(self._provers.head_size, expected.size, read)

    def proven(self, expected: Expected, proof: Proof) -> None:
        """Note the head of a blob that was proven; not where its key is no digest: other bytes may get the same key."""
        if proof.head is not None and expected.has_digest:
            self._note(expected.key, proof.head)

    async def learn(self, key: str) -> None:
        """Read and record the head of a blob that was found right, where it is not known."""
        if self.get(key) is None:
            with contextlib.suppress(OSError, CacheError):
                head = await in_worker(self._read, key)
                if head is not None:
                    self._note(key, head)
                    await self.write()

    async def here(self, size: int, read: Read) -> Head | None:
        """The head of a blob of this size that grows; None where it has none, or it cannot be read."""
        with contextlib.suppress(OSError, CacheError):
            return await in_worker(self._provers.head, size, read)
        return None

    def _read(self, key: str) -> Head | None:
        with self._store.open(key) as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            return self._provers.head(size, lambda offset, count: os.pread(fd, count, offset))

    def _note(self, key: str, head: Head) -> None:
        if self.get(key) == head:
            return
        self._heads.pop(key, None)
        self._heads[key] = head
        self._unwritten.add(key)
        for old in list(self._heads)[:-HEADS]:
            del self._heads[old]

    async def write(self) -> None:
        """Record the new heads; those that the disk refuses are known until the next restart."""
        while self._unwritten:
            key = self._unwritten.pop()
            if (head := self.get(key)) is not None:
                with contextlib.suppress(OSError):
                    await in_worker(self._store.keep_head, key, head)
