"""A growing blob that is not kept: its bytes pass through memory, and are verified as those on the disk are.

A full or failing disk must not stop an update. Where the disk refused to go on with a draft, that draft lies under this one: the
bytes that it holds are read from it, only the others pass through memory.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.intervals import NOTHING, Intervals
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Draft, Place


class Overflowed(CacheError):
    """The disk refused bytes: the rest passes through memory, in order, fetched by another cursor."""


class MemoryDraft:
    """A `Draft` whose bytes are discarded once all readers have them.

    It is a sparse file in memory. Discarded bytes give their pages back and are never written over: the kernel may still be
    sending from them (sendfile copies nothing).

    Args:
        expected: size and digests that the blob must have.
        capacity: bytes of memory.
        under: the draft that the disk refused to go on with, or None.
        kept: the bytes that that one holds.
        mark, unmark: write down that bytes of it are sent, of which a crash leaves nothing, and that all of them were right.

    Attributes:
        filled: bytes that are never discarded: those of the draft below, and those that turned out wrong there or here after
            the memory had gone on beyond them.
    """

    is_torn = False

    def __init__(
        self,
        expected: Expected,
        capacity: int,
        under: Draft | None = None,
        kept: Intervals = NOTHING,
        mark: Callable[[], None] = lambda: None,
        unmark: Callable[[], None] = lambda: None,
    ) -> None:
        self._mark, self._unmark = mark, unmark
        self.expected = expected
        self.capacity: int = capacity
        self.filled = self._on_disk = kept
        self.validator: Validator | None = under.validator if under is not None else None
        self._under = under
        self._discarded_to = 0
        self._lock = threading.Lock()
        fd = os.memfd_create("omaha-mirror")
        self._file: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        os.ftruncate(fd, max(1, expected.size))
        self._memory = mmap.mmap(fd, max(1, expected.size))

    def begin(self, validator: Validator) -> None:
        """See `Draft.begin`."""
        self.validator = validator

    def place(self, offset: int) -> Place:
        """See `Draft.place`."""
        if self._under is not None and offset in self._on_disk:
            file = self._under.place(offset).file
            return Place(file, offset, self._on_disk.run_end(offset) - offset)
        stop = self._on_disk.next_start(offset, self.expected.size)
        return Place(self._file, offset, stop - offset, on_disk=False)

    @property
    def identity(self) -> None:
        """See `Draft.identity`: it is not kept."""

    @property
    def leaked(self) -> bool:
        """See `Draft.leaked`."""
        return self._under is not None and self._under.leaked

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """See `Draft.write`. Bytes more than the capacity before the end of `buffers` are discarded."""
        with self._lock:
            self._discard_before(offset + sum(map(len, buffers)) - self.capacity)
            for buffer in buffers:
                rest = memoryview(buffer)
                while rest:
                    done = os.pwrite(self._file.fileno(), rest, offset)
                    offset, rest = offset + done, rest[done:]

    def _discard_before(self, before: int) -> None:
        page = before - before % mmap.PAGESIZE
        if page > self._discarded_to:
            self._memory.madvise(mmap.MADV_REMOVE, self._discarded_to, page - self._discarded_to)
            self._discarded_to = page

    def read(self, offset: int, count: int) -> bytes:
        """See `Draft.read`."""
        place = self.place(offset)
        return os.pread(place.file.fileno(), min(count, place.count), place.offset)

    def leak(self) -> None:
        """See `Draft.leak`."""
        self._mark()
        if self._under is not None:
            self._under.leak()

    def drop(self, start: int, stop: int, *, leaked: bool) -> None:
        """See `Draft.drop`. The bytes that are fetched in place of discarded ones stay in memory."""
        with self._lock:
            self._on_disk = self._on_disk.remove(start, stop)
            kept = self.filled.remove(start, stop)
            self.filled = kept.add(start, min(stop, self._discarded_to))
        if self._under is not None:
            self._under.drop(start, stop, leaked=leaked)

    def record(self) -> None:
        """See `Draft.record`: memory does not survive a crash."""

    def commit(self, proof: Proof) -> str:  # noqa: ARG002 - it is not kept
        """See `Draft.commit`: it gets no name."""
        self._unmark()
        self.discard()
        return ""

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """See `Draft.reject`."""
        if leaked:
            self._mark()
        if self._under is not None:
            self._under.reject(aside=aside, leaked=leaked)

    def discard(self) -> None:
        """See `Draft.discard`."""
        if self._under is not None:
            self._under.discard()

    def close(self) -> None:
        """See `Draft.close`."""
        with self._lock:
            self._memory.close()
            self._file.close()
            if self._under is not None:
                self._under.close()
