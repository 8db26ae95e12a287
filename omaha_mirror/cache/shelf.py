"""The proven blobs: which of them may be served, and one open file for all who read the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omaha_mirror.cache.blob import Expected
from omaha_mirror.cache.clock import Clock
from omaha_mirror.cache.errors import Damaged
from omaha_mirror.cache.finish import in_worker
from omaha_mirror.cache.ledger import Ledger
from omaha_mirror.cache.proven import ProvenBlob
from omaha_mirror.cache.prover import Provers
from omaha_mirror.cache.store import Identity, Store


@dataclass(frozen=True, slots=True)
class Unsure:
    """A blob that is here, and was not found right by this process as the file that it is, or under these terms.

    Attributes:
        size: in bytes.
    """

    size: int


class Shelf:
    """Proven blobs by their key.

    A blob is believed only as the file that this process found right.

    Args:
        store: where they are kept.
        ledger: the books of the same place.
        provers: say whose signature counts, now.
        damaged: told of a blob that is one no longer, and why; it is forgotten by then.
        clock: tells the time.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        provers: Provers,
        damaged: Callable[[str, str], object],
        clock: Clock,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._provers = provers
        self._damaged = damaged
        self._clock = clock
        self._signed_by: dict[str, str] = {}
        self._right: dict[str, Identity] = {}
        self._broken: set[str] = set()
        self._unsized: set[str] = set()
        self._open: dict[str, ProvenBlob] = {}

    async def load(self) -> None:
        """Rebuild the index from the files. Raises OSError."""
        found, now = await in_worker(self._store.load), self._clock.stamp()
        for stored in found:
            self._ledger.settle(stored.key, stored.size, min(stored.last_used, now))
            self._signed_by[stored.key] = stored.signed_by
            if not stored.is_whole:
                self._broken.add(stored.key)
            elif not stored.is_told:
                self._unsized.add(stored.key)

    def put(self, key: str, size: int, signed_by: str, found: Identity | None) -> None:
        """Take a blob that was just proven, as this file."""
        self._ledger.settle(key, size, self._clock.time())
        self._signed_by[key] = signed_by
        self._broken.discard(key)
        self._unsized.discard(key)
        self.verified(key, found)

    def verified(self, key: str, found: Identity | None) -> None:
        """The bytes of this file were found right."""
        if found is not None:
            self._right[key] = found

    def lists(self, key: str) -> bool:
        """Whether there is something by the name of the blob, be it right or not."""
        return key in self._ledger.entries

    def touch(self, key: str) -> None:
        """Note a use, if it is here."""
        if key in self._ledger.entries:
            now = self._clock.time()
            self._ledger.touch(key, now)
            self._store.touch(key, now)

    def holds(self, key: str) -> bool:
        """Whether the blob is here, and may be served."""
        is_accepted = self._provers.accepts(self._signed_by.get(key, ""))
        return self.lists(key) and key not in self._broken and is_accepted

    def is_verified(self, key: str) -> bool:
        """Whether this process found it right."""
        return key in self._right

    def find(self, expected: Expected) -> ProvenBlob | Unsure | None:
        """The blob, open. One that somebody removed by hand is forgotten; one that cannot be read is fetched."""
        key = expected.key
        if not self.lists(key) or key in self._broken:
            return None
        if not self.holds(key):
            return Unsure(self._ledger.entries[key].size)
        blob = self._open.get(key)
        if blob is not None and not blob.is_unchanged:
            blob.lose("")
            blob = None
        return blob if blob is not None else self._opened(expected)

    def _opened(self, expected: Expected) -> ProvenBlob | Unsure | None:
        key = expected.key
        try:
            file = self._store.open(key)
        except FileNotFoundError:
            self.take(key)
            return None
        except Damaged as error:
            self._give_up(key, str(error))
            return None
        except OSError:
            return None
        blob = ProvenBlob(
            file,
            on_last=lambda: self._shut(key, blob),
            on_lost=lambda reason: self._lost(key, blob, reason),
        )
        if blob.identity == self._right.get(key):
            self._open[key] = blob
            return blob
        blob.close()
        self._right.pop(key, None)
        return self._judged(expected, blob.size)

    def _judged(self, expected: Expected, size: int) -> Unsure | None:
        """What is to be made of a file that this process did not find right. Who asks may be wrong about the size."""
        key = expected.key
        told = expected.size if key in self._unsized else self._ledger.entries[key].size
        if size == told:
            return Unsure(size)
        self._give_up(key, f"{size} bytes instead of {told}")
        return None

    def _shut(self, key: str, blob: ProvenBlob) -> None:
        blob.close()
        if self._open.get(key) is blob:
            del self._open[key]

    def _lost(self, key: str, blob: ProvenBlob, reason: str) -> None:
        if self._open.get(key) is blob:
            del self._open[key]
            if reason:
                self._give_up(key, reason)

    def give_up(self, key: str, reason: str, found: Identity | None) -> None:
        """This file of a blob cannot be read; the blob may have another one by now."""
        if found is not None and self._right.get(key) == found:
            self._give_up(key, reason)

    def _give_up(self, key: str, reason: str) -> None:
        if (blob := self.take(key)) is not None:
            blob.lose("")
        self._damaged(key, reason)

    def take(self, key: str) -> ProvenBlob | None:
        """Forget a blob; gives it where somebody reads it."""
        self._ledger.remove(key)
        self._right.pop(key, None)
        self._broken.discard(key)
        self._unsized.discard(key)
        return self._open.pop(key, None)
