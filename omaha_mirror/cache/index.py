"""The proven blobs: which of them may be served, and one open file for all readers of the same.

Phases: `load` once, then everything else, `close` once. A blob is listed (there is a file), held (it may be served) and
verified (this process found this very file right); `put` and `verified` go up, `take` forgets it. All on the event loop; the
index owns the open files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import structlog

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import in_worker, submit
from omaha_mirror.aio.workers import BLOBS, Hangs
from omaha_mirror.cache.blob import Expected
from omaha_mirror.cache.errors import Damaged
from omaha_mirror.cache.open_blob import Opening, ProvenBlob
from omaha_mirror.cache.prover import Provers
from omaha_mirror.cache.space import Ledger
from omaha_mirror.cache.store import Identity, Store

LOG = structlog.get_logger(__name__)
REST = 1.0
"""Seconds for which a blob that cannot be opened is fetched instead."""
LINGER = 1.0
"""Seconds for which a blob without readers stays open, and after which its use is written down: both take a thread."""
MANY = 64
"""Blobs that are open together, beyond which one without readers is closed at once."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """A blob that is here, and was not found right by this process as the file that it is, or under these terms.

    Attributes:
        size: in bytes.
    """

    size: int


class Index:
    """Proven blobs by their key.

    A blob is believed only as the file that this process found right.

    Args:
        store: where they are kept.
        ledger: the space accounts of the same directory.
        provers: say whose signature counts, now.
        damaged: called with the key of a blob that is damaged, and why; it is forgotten by then.
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
        self._opening: dict[str, Opening] = {}
        self._away: dict[str, Callable[[], bool]] = {}
        self._left: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._noting = False
        self._closed = False

    async def load(self) -> None:
        """Rebuild the index from the files. Raises OSError."""
        found, now = await in_worker(self._store.load), self._clock.stamp()
        for stored in found:
            self._ledger.settle(stored.key, stored.size, min(stored.last_used, now))
            self._signed_by[stored.key] = stored.signed_by
            if not stored.is_whole:
                self._broken.add(stored.key)
            elif not stored.is_described:
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
            self._used[key] = now
            self._look_later()

    async def close(self) -> None:
        """Close all without readers, and write down the last uses, if the disk answers."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        for key in list(self._open):
            self.let_go(key)
        with suppress(Hangs):
            await BLOBS.patiently(None, self._note)

    def _look_later(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LINGER, self._look)

    def _look(self) -> None:
        """Close what had no readers for a while, and have the last uses written down."""
        self._looking = None
        before = time.monotonic() - LINGER
        for key in [key for key, left in self._left.items() if left <= before]:
            self.let_go(key)
        if self._left:
            self._look_later()
        if self._used and not self._noting:
            self._noting = True
            submit(self._note)

    def _note(self) -> None:
        """Write down when blobs were used; one thread does. What it misses is noted with the next use."""
        try:
            with suppress(KeyError):  # all of them are written down
                while True:
                    self._store.touch(*self._used.popitem())
        finally:
            self._noting = False

    def holds(self, key: str) -> bool:
        """Whether the blob is here, and may be served."""
        is_accepted = self._provers.accepts(self._signed_by.get(key, ""))
        return self.lists(key) and key not in self._broken and is_accepted

    def is_verified(self, key: str) -> bool:
        """Whether this process found it right."""
        return key in self._right

    def is_away(self, key: str) -> bool:
        """Whether the disk does not answer when the blob is read, or does not let it be opened."""
        lasts = self._away.get(key)
        if lasts is not None and not lasts():
            del self._away[key]
        return key in self._away

    def find(self, expected: Expected) -> ProvenBlob | Opening | Unsure | None:
        """The blob, open or being opened; `Unsure` where it must be verified first.

        None where it is to be fetched: it is not here, is known to be damaged, or its disk does not answer now.
        """
        key = expected.key
        entry = self._ledger.entries.get(key)
        if entry is None or key in self._broken or (self._away and self.is_away(key)):
            return None
        if key not in self._right or not self._provers.accepts(self._signed_by.get(key, "")):
            return Unsure(expected.size if key in self._unsized else entry.size)
        if (blob := self._open.get(key)) is not None:
            match blob.state():
                case "same":
                    return blob
                case "changed":
                    blob.lose("")
                case "unnamed":
                    self.let_go(key)
        return self._opening_of(key)

    def _opening_of(self, key: str) -> Opening:
        if key not in self._opening:
            self._opening[key] = Opening(self._open_it(key), lambda: self._never_read(key))
        return self._opening[key]

    async def _open_it(self, key: str) -> None:
        """Open a blob, and note what came of it. One that was removed by hand is forgotten."""
        try:
            file = await BLOBS.patiently(None, self._store.open, key)
            if not self._put_open(key, file):
                self._right.pop(key, None)
        except FileNotFoundError:
            self.take(key)
        except Damaged as error:
            self._give_up(key, str(error))
        except Hangs as error:
            self._leave_alone(key, error)
        except OSError:
            self._rest(key)
        except Exception:  # an endless round for its readers otherwise
            LOG.exception("cannot open a blob: it is fetched", key=key)
            self._rest(key)
        finally:
            del self._opening[key]

    def _put_open(self, key: str, file: BinaryIO) -> bool:
        """Whether it is the file that was found right."""
        blob = ProvenBlob(
            file,
            on_last=lambda: self._left_alone(key, blob),
            on_lost=lambda reason: self._lost(key, blob, reason),
            on_hang=lambda error: self._leave_alone(key, error),
        )
        if blob.identity != self._right.get(key):
            blob.close()
            return False
        self._open[key] = blob
        return True

    def _rest(self, key: str) -> None:
        until = time.monotonic() + REST
        self._away[key] = lambda: time.monotonic() < until

    def _leave_alone(self, key: str, error: Hangs) -> None:
        self._away[key] = lambda: error.lasts

    def _left_alone(self, key: str, blob: ProvenBlob) -> None:
        """The last reader left: the next one, which may come at once, finds it open."""
        if self._open.get(key) is not blob:
            blob.close()
        elif self._closed or len(self._open) > MANY:
            self.let_go(key)
        else:
            self._left[key] = time.monotonic()
            self._look_later()

    def _never_read(self, key: str) -> None:
        """Close a blob whose readers left before it was open. One that was read meanwhile stays open for a while."""
        if key not in self._left:
            self.let_go(key)

    def let_go(self, key: str) -> None:
        """Close a blob without readers."""
        self._left.pop(key, None)
        if (blob := self._open.get(key)) is not None and not blob.is_read:
            del self._open[key]
            blob.close()

    def _lost(self, key: str, blob: ProvenBlob, reason: str) -> None:
        if self._open.get(key) is blob:
            del self._open[key]
            if not blob.is_read:
                blob.close()
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
        """Forget a blob; gives it where it has readers."""
        self._ledger.remove(key)
        self._signed_by.pop(key, None)
        self._right.pop(key, None)
        self._left.pop(key, None)
        self._broken.discard(key)
        self._unsized.discard(key)
        blob = self._open.pop(key, None)
        if blob is not None and not blob.is_read:
            blob.close()
            return None
        return blob
