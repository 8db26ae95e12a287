"""The proven blobs: which of them may be served, and one open file for all readers of the same blob.

Phases: `load` once, then everything else, `close` once. A blob is listed (there is a file), held (it may be served) and
verified (this process found this very file right). `put` lists a verified blob, `verified` notes a verification, `forget` ends
both. All on the event loop; the index owns the open files.
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
REWRITE_AFTER = 60.0
"""Seconds in which a blob is not written where the disk did not give it back."""
REOPEN_AFTER = 1.0
"""Seconds for which a blob that cannot be opened is fetched instead."""
IDLE_SECONDS = 1.0
"""Seconds for which a blob without readers stays open, and after which its use is recorded: both take a thread."""
MAX_OPEN = 64
"""Blobs that are open together; beyond that, one without readers is closed at once."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A blob that is here and must be verified before it is served: it may be another file by now, or the terms are others.

    Attributes:
        size: in bytes.
    """

    size: int


@dataclass(slots=True)
class _Listed:
    """What is known of a blob.

    Attributes:
        signed_by: the id of the key that signed it; "" where none did, or it is not known.
        is_damaged: whether it is no file, or not of the size that its sidecar says.
        is_described: whether its sidecar can be read.
        verified: the file that this process found right.
    """

    signed_by: str
    is_damaged: bool = False
    is_described: bool = True
    verified: Identity | None = None


class Index:
    """Proven blobs by their key.

    A blob is believed only as the file that this process found right.

    Args:
        store: where they are kept.
        ledger: the space accounts of the same directory.
        provers: say whose signature counts, now.
        damaged: called with the key of a damaged blob, and why; the index has forgotten it by then.
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
        self._listed: dict[str, _Listed] = {}
        self._open: dict[str, ProvenBlob] = {}
        self._opening: dict[str, Opening] = {}
        self._unavailable: dict[str, Callable[[], bool]] = {}
        """Tell, by the key of a blob, whether its disk still does not give it."""
        self._idle: dict[str, float] = {}
        """When the last reader of an open blob left, in monotonic seconds."""
        self._used: dict[str, float] = {}
        """The uses that are not recorded yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._recording = False
        self._closed = False

    async def load(self) -> None:
        """Rebuild the index from the files. Raises OSError."""
        signed = not self._provers.accepts("")
        found, now = await in_worker(self._store.load, signed=signed), self._clock.stamp()
        for stored in found:
            self._ledger.settle(stored.key, stored.size, min(stored.last_used, now))
            self._listed[stored.key] = _Listed(
                stored.signed_by, not stored.is_whole, stored.is_described
            )

    def put(self, key: str, size: int, signed_by: str, found: Identity | None) -> None:
        """List a blob that was just proven, as this file."""
        self._ledger.settle(key, size, self._clock.time())
        self._listed[key] = _Listed(signed_by, verified=found)

    def verified(self, key: str, found: Identity | None) -> None:
        """Note that the bytes of this file were found right."""
        if (known := self._listed.get(key)) is not None:
            known.verified = found

    def lists(self, key: str) -> bool:
        """Whether there is a file by the name of the blob, right or wrong."""
        return key in self._ledger.entries

    def touch(self, key: str) -> None:
        """Note a use of a blob."""
        if key in self._ledger.entries:
            now = self._clock.time()
            self._ledger.touch(key, now)
            self._used[key] = now
            self._tidy_later()

    async def close(self) -> None:
        """Close the blobs without readers, and record the last uses, if the disk answers."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for key in list(self._open):
            self.close_idle(key)
        with suppress(Hangs):
            await BLOBS.patiently(None, self._record_uses)

    def _tidy_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._tidy)

    def _tidy(self) -> None:
        """Close the blobs that are idle for long, and have the last uses recorded."""
        self._timer = None
        before = time.monotonic() - IDLE_SECONDS
        for key in [key for key, left in self._idle.items() if left <= before]:
            self.close_idle(key)
        if self._idle:
            self._tidy_later()
        if self._used and not self._recording:
            self._recording = True
            submit(self._record_uses)

    def _record_uses(self) -> None:
        """Record when blobs were used, in one thread at a time. A use that it misses is recorded with the next one."""
        try:
            with suppress(KeyError):  # all of them are recorded
                while True:
                    self._store.touch(*self._used.popitem())
        finally:
            self._recording = False

    def holds(self, key: str) -> bool:
        """Whether the blob is here, and may be served."""
        known = self._listed.get(key)
        if known is None or known.is_damaged or not self.lists(key):
            return False
        return self._provers.accepts(known.signed_by)

    def is_verified(self, key: str) -> bool:
        """Whether this process found the blob right."""
        known = self._listed.get(key)
        return known is not None and known.verified is not None

    def is_unavailable(self, key: str) -> bool:
        """Whether the blob cannot be opened at present, or its disk does not answer."""
        lasts = self._unavailable.get(key)
        if lasts is not None and not lasts():
            del self._unavailable[key]
        return key in self._unavailable

    def find(self, expected: Expected) -> ProvenBlob | Opening | Unverified | None:
        """The blob, open or being opened, or that it must be verified first.

        None where it is to be fetched: it is not here, it is damaged, or its disk does not answer now.
        """
        key = expected.key
        entry, known = self._ledger.entries.get(key), self._listed.get(key)
        if entry is None or known is None or known.is_damaged:
            return None
        if self._unavailable and self.is_unavailable(key):
            return None
        if known.verified is None or not self._provers.accepts(known.signed_by):
            return Unverified(entry.size if known.is_described else expected.size)
        if (blob := self._open.get(key)) is not None:
            match blob.state():
                case "same":
                    return blob
                case "changed":
                    blob.lose("")
                case "unnamed":
                    self.close_idle(key)
        return self._open_soon(key)

    def _open_soon(self, key: str) -> Opening:
        if key not in self._opening:
            self._opening[key] = Opening(self._open_file(key), lambda: self._not_read(key))
        return self._opening[key]

    async def _open_file(self, key: str) -> None:
        """Open a blob for its readers, or note why it cannot be opened."""
        try:
            file = await BLOBS.patiently(None, self._store.open, key)
            self._share(key, file)
        except FileNotFoundError:  # removed by hand
            self.forget(key)
        except Damaged as error:
            self._forget_damaged(key, str(error))
        except Hangs as error:
            self._wait_for_disk(key, error)
        except OSError:
            self._retry_later(key)
        except Exception:  # its readers would look it up for ever
            LOG.exception("cannot open a blob: it is fetched", key=key)
            self._retry_later(key)
        finally:
            del self._opening[key]

    def _share(self, key: str, file: BinaryIO) -> None:
        """Give a file to the readers of a blob, if it is the one that was found right."""
        blob = ProvenBlob(
            file,
            on_last=lambda: self._became_idle(key, blob),
            on_lost=lambda reason: self._lost(key, blob, reason),
            on_hang=lambda error: self._wait_for_disk(key, error),
        )
        known = self._listed.get(key)
        if known is not None and known.verified == blob.identity:
            self._open[key] = blob
            return
        blob.close()
        if known is not None:
            known.verified = None

    def leave_disk_alone(self, key: str) -> None:
        """Let the blob pass through for a while: the disk does not give back what is written of it."""
        self._retry_later(key, REWRITE_AFTER)

    def _retry_later(self, key: str, seconds: float = REOPEN_AFTER) -> None:
        until = time.monotonic() + seconds
        self._unavailable[key] = lambda: time.monotonic() < until

    def _wait_for_disk(self, key: str, error: Hangs) -> None:
        self._unavailable[key] = lambda: error.lasts

    def _became_idle(self, key: str, blob: ProvenBlob) -> None:
        """The last reader left: the blob stays open for the next one."""
        if self._open.get(key) is not blob:
            blob.close()
        elif self._closed or len(self._open) > MAX_OPEN:
            self.close_idle(key)
        else:
            self._idle[key] = time.monotonic()
            self._tidy_later()

    def _not_read(self, key: str) -> None:
        """Close a blob whose readers left before it was open; one that was read since stays open as any other."""
        if key not in self._idle:
            self.close_idle(key)

    def close_idle(self, key: str) -> None:
        """Close a blob without readers."""
        self._idle.pop(key, None)
        if (blob := self._open.get(key)) is not None and not blob.is_read:
            del self._open[key]
            blob.close()

    def _lost(self, key: str, blob: ProvenBlob, reason: str) -> None:
        if self._open.get(key) is blob:
            del self._open[key]
            if not blob.is_read:
                blob.close()
            if reason:
                self._forget_damaged(key, reason)

    def file_unreadable(self, key: str, reason: str, found: Identity | None) -> None:
        """Forget a blob as damaged where this file of it, which cannot be read, is still the one that is served."""
        known = self._listed.get(key)
        if found is not None and known is not None and known.verified == found:
            self._forget_damaged(key, reason)

    def _forget_damaged(self, key: str, reason: str) -> None:
        if (blob := self.forget(key)) is not None:
            blob.lose("")
        self._damaged(key, reason)

    def forget(self, key: str) -> ProvenBlob | None:
        """Forget a blob; returns it open where it has readers."""
        self._ledger.remove(key)
        self._listed.pop(key, None)
        self._idle.pop(key, None)
        blob = self._open.pop(key, None)
        if blob is not None and not blob.is_read:
            blob.close()
            return None
        return blob
