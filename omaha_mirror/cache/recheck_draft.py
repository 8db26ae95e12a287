"""A proven blob that is verified again where it lies. `blob_directory` describes its files.

It keeps its name meanwhile, so that a crash loses nothing. With the first wrong byte (`drop`) it becomes a growing blob
(`_growing`) that has all other bytes, without CRC-32.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.blob_directory import BlobDirectory, write_sidecar
from omaha_mirror.cache.draft import DiskDraft, header_line, written_line
from omaha_mirror.cache.errors import Damaged, Lost, is_unreadable
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Identity, Place, identity
from omaha_mirror.state_file import sync, sync_folder


class RecheckDraft:
    """See `Draft`.

    Args:
        directory: where it is.
        expected: size and digests that it must have.
        clock: dates the sidecar.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no blob of the expected size.
        OSError: it cannot be opened now.
    """

    is_torn = False

    def __init__(self, directory: BlobDirectory, expected: Expected, clock: Clock) -> None:
        self.expected = expected
        self.capacity: int | None = None
        self.validator: Validator | None = None
        self.filled = Intervals([(0, expected.size)])
        self.leaked = directory.doubt(expected.key).exists()
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._growing: DiskDraft | None = None
        self._file = directory.open(expected.key)
        self._found = identity(self._file)
        if self._found.size != expected.size:
            self._file.close()
            raise Damaged(f"{self._found.size} bytes instead of {expected.size}")

    @property
    def identity(self) -> Identity | None:
        """See `Draft.identity`: of the file that was read, even if its name leads to another one by now."""
        return self._found if self._growing is None else self._growing.identity

    def place(self, offset: int) -> Place:
        """See `Draft.place`."""
        return Place(self._file, offset, self.expected.size - offset)

    def read(self, offset: int, count: int) -> bytes:
        """See `Draft.read`. Raises Lost where the file does not have them any more, or is being written by others."""
        if self._growing is None and identity(self._file) != self._found:
            raise Lost("the file was written while it was read")
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            if is_unreadable(error):
                raise Lost(f"cannot be read at {offset}: {error.strerror}") from error
            raise
        if len(data) < min(count, self.expected.size - offset):
            raise Lost(f"the file ends at {offset + len(data)}")
        return data

    def leak(self) -> None:
        """See `Draft.leak`."""
        note = self._directory.doubt(self.expected.key)
        note.touch()
        sync_folder(note.parent)
        if self._growing is not None:
            self._growing.leak()

    def drop(self, start: int, stop: int, *, leaked: bool) -> None:
        """See `Draft.drop`."""
        self.filled = self.filled.remove(start, stop)
        if leaked:
            self._directory.mark(self.expected.key)
        if self._growing is not None:
            self._growing.drop(start, stop, leaked=False)
        else:
            self._grow()

    def begin(self, validator: Validator) -> None:
        """See `Draft.begin`."""
        self._grow().begin(validator)
        self.validator = validator

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """See `Draft.write`."""
        self._grow().write(offset, buffers)

    def record(self) -> None:
        """See `Draft.record`."""
        if self._growing is not None:
            self._growing.record()

    def _grow(self) -> DiskDraft:
        """The growing blob. The journal comes first: without its data it is swept, and the blob stays as it was."""
        with self._lock:
            if self._growing is None:
                key = self.expected.key
                path, data = self._directory.path(key), self._directory.partial / f"{key}.data"
                if not self._has_its_name() or not os.access(path, os.W_OK):
                    raise OSError(errno.EROFS, f"{path} cannot be repaired")
                lines = [header_line(self.expected.size, self.expected.source, {})]
                lines += [written_line(start, stop, None) for start, stop in self.filled]
                with data.with_suffix(".json").open("wb", buffering=0) as file:
                    file.write(b"".join(lines))
                    sync(file.fileno())
                path.rename(data)
                path.with_suffix(".json").unlink(missing_ok=True)
                sync_folder(data.parent)
                sync_folder(path.parent)
                self._growing = DiskDraft(self._directory, self.expected)
            return self._growing

    def _has_its_name(self) -> bool:
        found = self._directory.identity(self.expected.key)
        return found is not None and found[:2] == self._found[:2]

    def commit(self, proof: Proof) -> str:
        """See `Draft.commit`. A sidecar that is right stays."""
        key = self.expected.key
        if self._growing is not None:
            key = self._growing.commit(proof)
        elif self._has_its_name():
            with contextlib.suppress(OSError):
                self._describe(key, proof)
        self._forget_doubt()
        return key

    def _describe(self, key: str, proof: Proof) -> None:
        facts = self._directory.describe(key)
        if (facts.size, facts.sha256, facts.signed_by) == (
            proof.size,
            proof.sha256,
            proof.signed_by,
        ):
            self._directory.verified(key, self._clock.time())
        else:
            source = facts.source or self.expected.source
            write_sidecar(self._directory.path(key), proof, source, facts.validator)

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """See `Draft.reject`."""
        key = self.expected.key
        if self._growing is not None:
            self._growing.reject(aside=aside, leaked=leaked)
        elif self._has_its_name():
            self._directory.quarantine_blob(key, leaked=leaked)
        elif leaked:
            self._directory.mark(key)
        self._forget_doubt()

    def discard(self) -> None:
        """See `Draft.discard`. An error of the disk is ignored."""
        with contextlib.suppress(OSError):
            if self._growing is not None:
                self._growing.discard()
            elif self._has_its_name():
                self._directory.remove(self.expected.key)
            self._forget_doubt()

    def _forget_doubt(self) -> None:
        with contextlib.suppress(OSError):
            self._directory.doubt(self.expected.key).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Draft.close`."""
        with self._lock:
            self._file.close()
            if self._growing is not None:
                self._growing.close()
