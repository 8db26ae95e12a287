"""Blobs of an import: written aside and proven, then visible together, or not at all.

Phases: entered, `reserve`, `add` for each blob, `commit`; leaving the context removes the blobs that were not committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Self

from omaha_mirror.aio.tasks import finish, in_worker
from omaha_mirror.cache.blob import Expected, Hasher, Proof
from omaha_mirror.cache.errors import DigestMismatch, InUse
from omaha_mirror.cache.failures import Failures
from omaha_mirror.cache.heads import Heads
from omaha_mirror.cache.index import Index
from omaha_mirror.cache.prover import Prover, Provers
from omaha_mirror.cache.space import Ledger, Space
from omaha_mirror.cache.store import Identity, Incoming, Store

BOOKED = "incoming"
"""The key of the reservation; no blob has it."""


class Ingest:
    """One set of blobs. An async context manager: at its end the blobs that were not committed are removed.

    Args:
        store: where they are kept.
        ledger: the space accounts of the same directory.
        space: makes room there.
        index: the proven blobs.
        provers: say what is required of a blob besides its digest.
        failures: the blobs that turned out wrong.
        heads: of blobs that were proven.

    Raises:
        InUse: when it is entered while another one is open.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        space: Space,
        index: Index,
        provers: Provers,
        failures: Failures,
        heads: Heads,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._space = space
        self._index = index
        self._provers = provers
        self._failures = failures
        self._heads = heads
        self._written = 0
        self._proven: list[tuple[Expected, Incoming, Proof, Identity]] = []

    async def __aenter__(self) -> Self:
        if BOOKED in self._ledger.reserved:
            raise InUse("another import is running: try again when it has ended")
        self._ledger.reserve(BOOKED, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await in_worker(
                _close, [incoming for _expected, incoming, _proof, _found in self._proven]
            )
        finally:
            self._ledger.release(BOOKED)

    async def reserve(self, size: int) -> None:
        """Reserve space for all of them, in bytes, before the first. Raises NoSpace, OSError."""
        await self._space.book(BOOKED, size)

    async def add(self, expected: Expected, chunks: AsyncIterator[bytes]) -> None:
        """Write a blob aside, and prove it; one of each key.

        Raises:
            DigestMismatch: its digest is wrong.
            Untrusted: it must not be served.
            OSError: the disk failed.
        """
        hasher, prover = Hasher(expected), self._provers(expected, 1)
        incoming = await in_worker(self._store.incoming, expected)
        try:
            async for chunk in chunks:
                await in_worker(_write, incoming, hasher, prover, chunk)
                self._written += len(chunk)
                self._ledger.wrote(BOOKED, self._written)
            found = await in_worker(incoming.finish)
            judged = hasher.judge()
            if isinstance(judged, str):
                raise DigestMismatch(judged)
            signed_by = await in_worker(prover.conclude, None)
            proof = replace(judged, signed_by=signed_by, head=prover.head())
        except BaseException:
            await in_worker(incoming.close)
            raise
        self._proven.append((expected, incoming, proof, found))

    async def commit(self) -> None:
        """Give all of them their names, cancelled or not.

        Raises:
            OSError: the disk failed; those that have their names keep them.
        """
        await finish(self._commit())

    async def _commit(self) -> None:
        for expected, incoming, proof, found in self._proven:
            await in_worker(incoming.commit, proof)
            self._index.put(expected.key, expected.size, proof.signed_by, found)
            self._failures.right(expected.key)
            self._heads.proven(expected, proof)
            await self._heads.write()


def _close(blobs: list[Incoming]) -> None:
    for incoming in blobs:
        incoming.close()


def _write(incoming: Incoming, hasher: Hasher, prover: Prover, chunk: bytes) -> None:
    hasher.update(chunk)
    prover.take(chunk)
    incoming.write(chunk)
