"""The proven blobs: which of them may be served, and one open file for all who read the same."""

from __future__ import annotations

import time

from omaha_mirror.cache.finish import in_worker
from omaha_mirror.cache.ledger import Ledger
from omaha_mirror.cache.proven import ProvenBlob
from omaha_mirror.cache.prover import Provers
from omaha_mirror.cache.store import Store


class Shelf:
    """Proven blobs by their key.

    Args:
        store: where they are kept.
        ledger: the books of the same place.
        provers: say whose signature counts, now.
    """

    def __init__(self, store: Store, ledger: Ledger, provers: Provers) -> None:
        self._store = store
        self._ledger = ledger
        self._provers = provers
        self._signed_by: dict[str, str] = {}
        self._open: dict[str, ProvenBlob] = {}

    async def load(self) -> None:
        """Rebuild the index from the files. Raises OSError."""
        for stored in await in_worker(self._store.load):
            self._ledger.settle(stored.key, stored.size, stored.last_used)
            self._signed_by[stored.key] = stored.signed_by

    def put(self, key: str, size: int, signed_by: str) -> None:
        """Take a blob that was just proven."""
        self._ledger.settle(key, size, time.time())
        self._signed_by[key] = signed_by

    def holds(self, key: str) -> bool:
        """Whether the blob is here, and may be served."""
        return key in self._ledger.entries and self._provers.accepts(self._signed_by.get(key, ""))

    def find(self, key: str) -> ProvenBlob | None:
        """The blob, open. One that somebody removed by hand is forgotten; one that cannot be read is fetched."""
        if not self.holds(key):
            return None
        if key not in self._open:
            try:
                file = self._store.open(key)
            except FileNotFoundError:
                self._ledger.remove(key)
                return None
            except OSError:
                return None
            size = self._ledger.entries[key].size
            blob = self._open[key] = ProvenBlob(file, size, lambda: self._shut(key, blob))
        return self._open[key]

    def _shut(self, key: str, blob: ProvenBlob) -> None:
        blob.close()
        if self._open.get(key) is blob:
            del self._open[key]

    def take(self, key: str) -> ProvenBlob | None:
        """Forget a blob; gives it where somebody reads it."""
        self._ledger.remove(key)
        return self._open.pop(key, None)
