"""The default store: a directory that can be listed and repaired with ordinary tools.

    blobs/ab/<key>          a proven blob; its modification time is its last use
    blobs/ab/<key>.json     what it is and how it was proven; its modification time is when the bytes were last found right
    partial/<key>.data      a growing blob (sparse)
    partial/<key>.json      its journal: a header, then a line for each span that was written
    quarantine/<key>.<n>    bytes that turned out wrong, for a look; the oldest go
    quarantine/<key>.left   a mark: some bytes of a generation that ended had left by then

What a crash can do is decided by the order of the steps, and by nothing else:

* Each line of the journal carries the CRC-32 of its span and is believed only as far as the data bears it out: a torn
  line, a lying one, or a data file that was cut costs that span and nothing else. Bytes and line are written together,
  before a byte of it can leave, so a killed process loses nothing; what a power cut may lose is bounded by `record`.
* A blob gets its name only after its bytes and its sidecar were synced; the folder is synced after the rename. A name
  under `blobs/` is therefore always a whole, proven blob.
* The journal goes after that. A journal without data, or data without a journal, is a leftover and is swept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from omaha_mirror.cache import inventory
from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.inventory import Facts, Leftover
from omaha_mirror.cache.residency import READ
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Place, Stored

QUARANTINED = 4
MARKS = 1000
MAX_BUFFERS = 512
MARK = ".left"
KEY = re.compile(r"[0-9a-f]{64}|sha1-[0-9a-f]{40}")
"""Names of proven blobs."""


class DiskStore:
    """Blobs in a directory. One process at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs"
        self.partial = directory / "partial"
        self.quarantine = directory / "quarantine"

    def load(self) -> list[Stored]:
        """See `Store.load`."""
        for folder in (self.blobs, self.partial, self.quarantine):
            folder.mkdir(parents=True, exist_ok=True)
        for file in self.partial.iterdir():
            other = file.with_suffix(".data" if file.suffix == ".json" else ".json")
            if file.is_file() and (file.suffix not in {".data", ".json"} or not other.exists()):
                file.unlink()
        return list(self._proven())

    def _proven(self) -> Iterator[Stored]:
        for file in self.blobs.glob("??/*"):
            if file.suffix == ".tmp" or (
                file.suffix == ".json" and not file.with_suffix("").exists()
            ):
                file.unlink()
            elif KEY.fullmatch(file.name) and file == self.path(file.name) and file.is_file():
                status = file.stat()
                yield Stored(file.name, status.st_size, status.st_mtime)

    def marks(self) -> dict[str, float]:
        """See `Store.marks`."""
        found = self.quarantine.glob(f"*{MARK}")
        return {file.name.removesuffix(MARK): file.stat().st_mtime for file in found}

    def path(self, key: str) -> Path:
        """Where a proven blob is."""
        return self.blobs / key.rpartition("-")[2][:2] / key

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        return self.path(key).open("rb", buffering=0)

    def draft(self, expected: Expected) -> DiskDraft:
        """See `Store.draft`."""
        return DiskDraft(self, expected)

    def begun(self, key: str) -> int:
        """See `Store.begun`."""
        try:
            return (self.partial / f"{key}.data").stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def remove(self, key: str) -> None:
        """See `Store.remove`."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)

    def touch(self, key: str, now: float) -> None:
        """See `Store.touch`."""
        with contextlib.suppress(OSError):
            os.utime(self.path(key), (now, now))

    def free(self) -> int:
        """See `Store.free`."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def describe(self, key: str) -> Facts:
        """See `Store.describe`."""
        return inventory.facts(self._sidecar(key))

    def verified(self, key: str, now: float) -> None:
        """See `Store.verified`."""
        with contextlib.suppress(OSError):
            os.utime(self._sidecar(key), (now, now))

    def condemn(self, key: str, *, leaked: bool) -> None:
        """See `Store.condemn`."""
        if leaked:
            (self.quarantine / f"{key}{MARK}").touch()
        with contextlib.suppress(FileNotFoundError):
            self.path(key).touch()  # the quarantine goes by it
            self.set_aside(self.path(key), key)
        self._sidecar(key).unlink(missing_ok=True)

    def leftovers(self) -> list[Leftover]:
        """See `Store.leftovers`."""
        growing = (inventory.leftover("partial", file) for file in self.partial.glob("*.data"))
        aside = (
            inventory.leftover("quarantine", file)
            for file in self.quarantine.iterdir()
            if file.suffix != MARK
        )
        return [found for found in (*growing, *aside) if found is not None]

    def discard(self, leftover: Leftover) -> None:
        """See `Store.discard`."""
        folder = self.partial if leftover.kind == "partial" else self.quarantine
        (folder / leftover.name).with_suffix(".json").unlink(missing_ok=True)
        (folder / leftover.name).unlink(missing_ok=True)

    def _sidecar(self, key: str) -> Path:
        return self.path(key).with_suffix(".json")

    def set_aside(self, file: Path, key: str) -> None:
        """Move wrong bytes to the quarantine, which keeps the newest few."""
        file.rename(self.quarantine / f"{key}.{time.time_ns()}")
        self._thin_out(QUARANTINED, lambda file: file.suffix != MARK)
        self._thin_out(MARKS, lambda file: file.suffix == MARK)

    def _thin_out(self, keep: int, kind: Callable[[Path], bool]) -> None:
        found = sorted(
            filter(kind, self.quarantine.iterdir()), key=lambda file: file.stat().st_mtime
        )
        for old in found[:-keep]:
            old.unlink(missing_ok=True)


class DiskDraft:
    """A growing blob under `partial/`."""

    def __init__(self, store: DiskStore, expected: Expected) -> None:
        self.expected = expected
        self._store = store
        self._data = store.partial / f"{expected.key}.data"
        self._journal = store.partial / f"{expected.key}.json"
        self._lock = threading.Lock()
        self.capacity: int | None = None
        fd = os.open(self._data, os.O_RDWR | os.O_CREAT, 0o644)
        self.file: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        self.validator: Validator | None = None
        self.filled = Intervals()
        try:
            self._recover()
            os.ftruncate(fd, expected.size)
            self._log = self._journal.open("ab", buffering=0)
            self._log.write(
                b"\n" if self.filled else b""
            )  # ends a torn line: only that one is lost
        except OSError:
            self.file.close()
            raise

    def _recover(self) -> None:
        """Believe of the journal what the data file bears out; with no byte left, no generation is known either."""
        size = self.expected.size
        try:
            lines = self._journal.read_bytes().splitlines()
            header = json.loads(lines[0])
            validator = header["validator"] if header["size"] == size else None
        except (OSError, ValueError, LookupError, TypeError):
            return
        if not isinstance(validator, dict):
            return
        self.filled = Intervals(
            (start, stop)
            for start, stop, crc in _spans(lines[1:], size)
            if self._crc(start, stop - start) == crc
        )
        self.validator = validator if self.filled else None

    def _crc(self, offset: int, count: int) -> int | None:
        crc = 0
        while count > 0:
            data = os.pread(self.file.fileno(), min(count, READ), offset)
            if not data:
                return None
            crc = zlib.crc32(data, crc)
            offset += len(data)
            count -= len(data)
        return crc

    def place(self, offset: int) -> Place:
        """See `Draft.place`."""
        return Place(self.file, offset, self.expected.size - offset)

    def begin(self, validator: Validator) -> None:
        """See `Draft.begin`."""
        header = {
            "size": self.expected.size,
            "source": self.expected.source,
            "validator": dict(validator),
        }
        with self._lock:
            self._log.truncate(0)
            self._log.write(json.dumps(header).encode() + b"\n")
            os.fsync(self._log.fileno())
        _sync_folder(self._store.partial)
        self.validator = validator

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """See `Draft.write`."""
        start, crc = offset, 0
        with self._lock:
            for i in range(0, len(buffers), MAX_BUFFERS):
                offset = self._write(offset, buffers[i : i + MAX_BUFFERS])
            for buffer in buffers:
                crc = zlib.crc32(buffer, crc)
            span = {"start": start, "stop": offset, "crc32": crc}
            self._log.write(json.dumps(span).encode() + b"\n")

    def _write(self, offset: int, buffers: Sequence[bytes]) -> int:
        stop = offset + sum(map(len, buffers))
        at = offset + os.pwritev(self.file.fileno(), buffers, offset)
        if at < stop:
            rest = memoryview(b"".join(buffers))
            while at < stop:
                at += os.pwrite(self.file.fileno(), rest[at - offset :], at)
        return stop

    def read(self, offset: int, count: int) -> bytes:
        """See `Draft.read`."""
        return os.pread(self.file.fileno(), count, offset)

    def record(self) -> None:
        """See `Draft.record`."""
        os.fdatasync(self.file.fileno())
        os.fdatasync(self._log.fileno())

    def commit(self, proof: Proof) -> str:
        """See `Draft.commit`."""
        unnamed = proof.proven_by == "size-and-validator"
        key = proof.sha256.hex() if unnamed else self.expected.key
        target = self._store.path(key)
        target.parent.mkdir(exist_ok=True)
        os.fsync(self.file.fileno())
        sidecar = target.with_suffix(".json")
        draft = target.with_suffix(".tmp")
        with draft.open("wb") as file:
            file.write(json.dumps(self._description(proof), indent=1).encode() + b"\n")
            _sync(file)
        draft.rename(sidecar)
        self._data.rename(target)
        _sync_folder(target.parent)
        _sync_folder(self._store.blobs)
        _sync_folder(self._store.partial)
        self._journal.unlink(missing_ok=True)
        return key

    def _description(self, proof: Proof) -> dict[str, object]:
        return {
            "size": proof.size,
            "sha256": proof.sha256.hex(),
            "sha1": proof.sha1.hex() if proof.sha1 is not None else None,
            "proven_by": proof.proven_by,
            "source": self.expected.source,
            "validator": dict(self.validator or {}),
        }

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """See `Draft.reject`. The journal goes first: without it nothing believes the bytes any more."""
        self._journal.unlink(missing_ok=True)
        if leaked:
            (self._store.quarantine / f"{self.expected.key}{MARK}").touch()
        if aside:
            self._store.set_aside(self._data, self.expected.key)
        self._data.unlink(missing_ok=True)

    def discard(self) -> None:
        """See `Draft.discard`."""
        self._data.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """See `Draft.close`."""
        with self._lock:
            self.file.close()
            self._log.close()


def _spans(lines: Sequence[bytes], size: int) -> Iterator[tuple[int, int, int]]:
    for line in lines:
        try:
            span = json.loads(line)
            start, stop, crc = int(span["start"]), int(span["stop"]), int(span["crc32"])
        except (ValueError, LookupError, TypeError, OverflowError):
            continue
        if 0 <= start < stop <= size:
            yield start, stop, crc


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
