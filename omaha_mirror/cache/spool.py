"""A growing blob that is not kept: what comes passes through a ring in memory, and is judged as ever.

For when there is no room: a full disk must not stop an update. A draft that the disk refused to go on with lies under
it: what that one has is read from there, only the rest passes through the ring.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Draft, Place

NOTHING = Intervals()


class SpoolDraft:
    """A `Draft` whose bytes are forgotten once everybody had them.

    Args:
        expected: what it must become.
        capacity: bytes of memory.
        under: the draft that the disk refused to go on with, or None.
        kept: what that one holds.
    """

    def __init__(
        self,
        expected: Expected,
        capacity: int,
        under: Draft | None = None,
        kept: Intervals = NOTHING,
    ) -> None:
        self.expected = expected
        self.capacity: int | None = capacity
        self.filled = kept
        self.validator: Validator | None = under.validator if under is not None else None
        self._under = under
        self._size = capacity
        self._ring: BinaryIO = os.fdopen(os.memfd_create("omaha-mirror"), "r+b", buffering=0)
        self._lock = threading.Lock()

    def begin(self, validator: Validator) -> None:
        """See `Draft.begin`."""
        self.validator = validator

    def place(self, offset: int) -> Place:
        """See `Draft.place`."""
        if self._under is not None and offset in self.filled:
            return Place(
                self._under.place(offset).file, offset, self.filled.run_end(offset) - offset
            )
        at = offset % self._size
        room = self.filled.next_start(offset, self.expected.size) - offset
        return Place(self._ring, at, min(self._size - at, room))

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """See `Draft.write`."""
        with self._lock:
            for buffer in buffers:
                for at, piece in self._pieces(offset, buffer):
                    os.pwrite(self._ring.fileno(), piece, at)
                offset += len(buffer)

    def _pieces(self, offset: int, buffer: bytes) -> Iterator[tuple[int, memoryview]]:
        view = memoryview(buffer)
        while view:
            at = offset % self._size
            piece = view[: self._size - at]
            yield at, piece
            offset, view = offset + len(piece), view[len(piece) :]

    def read(self, offset: int, count: int) -> bytes:
        """See `Draft.read`."""
        place = self.place(offset)
        return os.pread(place.file.fileno(), min(count, place.count), place.offset)

    def record(self) -> None:
        """Nothing survives."""

    def commit(self, proof: Proof) -> str:  # noqa: ARG002 - there is nothing to write it on
        """It stays without a name: its readers finish, and it is gone."""
        self.discard()
        return ""

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """See `Draft.reject`."""
        if self._under is not None:
            self._under.reject(aside=aside, leaked=leaked)

    def discard(self) -> None:
        """See `Draft.discard`."""
        if self._under is not None:
            self._under.discard()

    def close(self) -> None:
        """See `Draft.close`."""
        with self._lock:
            self._ring.close()
            if self._under is not None:
                self._under.close()
