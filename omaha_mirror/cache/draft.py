"""A growing blob in a directory. `blob_directory` describes its files, and the effects of a crash.

Phases: made (its bytes on the disk were recovered), `begin` before the first `write`, then `write`, `read`, `drop`, `record` in any order and
from any worker, then one of `commit`, `reject`, `discard`, and `close` in any case. The draft owns its two files: the data, and a
journal of lines.

    {"size": ..., "source": ..., "validator": {...}}    which blob, and which generation of it
    {"start": ..., "stop": ..., "crc32": ...}           bytes that were written
    {"start": ..., "stop": ..., "crc32": null}          bytes that were there before, in a blob that was proven once
    {"dropped": [start, stop]}                          bytes that were wrong; others will come in their place
    {"leaked": true}                                    from here on, bytes were sent that may be wrong

A line is believed only as far as the data bears it out: a torn line, a wrong one, or a data file that was cut costs that span
and nothing else. Where a part of a span is dropped, the rest of it gets lines of its own: its CRC-32 will no longer be right.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.blob_directory import BlobDirectory, give_name
from omaha_mirror.cache.errors import is_unreadable
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.page_cache import READ
from omaha_mirror.cache.prover import Span
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Identity, Place, identity
from omaha_mirror.state_file import sync, sync_folder

AT_ONCE = 1024 * 1024
"""Bytes of a write at most. From 2 MiB on the kernel takes huge pages for the file, which may be in use for the first time: under
a hypervisor each of those costs several times what writing it does."""
MAX_BUFFERS = 512


class DiskDraft:
    """A growing blob under `partial/`."""

    def __init__(self, directory: BlobDirectory, expected: Expected) -> None:
        self.expected = expected
        self.capacity: int | None = None
        self.identity: Identity | None = None
        self._directory = directory
        self._data = directory.partial / f"{expected.key}.data"
        self._journal = directory.partial / f"{expected.key}.json"
        self._lock = threading.Lock()
        self._sync_failed = False
        fd = os.open(self._data, os.O_RDWR | os.O_CREAT, 0o644)
        self.file: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        try:
            found = recover(self._lines(), expected.size, self._crc)
            self.validator, self._leaked_in = found.validator, found.leaked_in
            if found.bare and not found.validator:
                self.validator = None  # any generation goes on with them: the proof tells
            self.filled = Intervals(found.spans)
            self._spans: list[Span] = list(found.spans)
            self._bare = Intervals(found.bare)
            os.ftruncate(fd, expected.size)
            self._log = self._journal.open("ab", buffering=0)
            self._may_be_torn = True
        except OSError as error:
            self.file.close()
            if is_unreadable(error):
                # The next draft of the blob begins anew, elsewhere on the disk; what was sent of this one, nobody can judge.
                with contextlib.suppress(OSError):
                    self.reject(aside=True, leaked=True)
            raise

    @property
    def leaked(self) -> bool:
        """See `Draft.leaked`."""
        return self._leaked_in is not None

    @property
    def is_torn(self) -> bool:
        """See `Draft.is_torn`. What was written before a kill is there, in this boot."""
        return self.leaked and self._leaked_in != (self._directory.boot or None)

    def _lines(self) -> list[bytes]:
        try:
            return self._journal.read_bytes().splitlines()
        except FileNotFoundError:
            return []

    def _crc(self, offset: int, count: int) -> int | None:
        """See `Crc`. Raises OSError."""
        crc, stop = 0, offset + count
        while offset < stop:
            data = os.pread(self.file.fileno(), min(stop - offset, READ), offset)
            if not data:
                return None
            crc = zlib.crc32(data, crc)
            offset += len(data)
        return crc

    def _append(self, lines: Iterable[bytes]) -> None:
        """Add lines to the journal, after the end of one that was cut short: only that one is lost. Raises OSError."""
        rest = memoryview(b"\n" * self._may_be_torn + b"".join(lines))
        self._may_be_torn = True
        while rest:
            rest = rest[self._log.write(rest) :]
        self._may_be_torn = False

    def place(self, offset: int) -> Place:
        """See `Draft.place`."""
        return Place(self.file, offset, self.expected.size - offset)

    def begin(self, validator: Validator) -> None:
        """See `Draft.begin`."""
        with self._lock:
            self._log.truncate(0)
            self._may_be_torn = False
            lines = [header_line(self.expected.size, self.expected.source, validator)]
            lines += [written_line(start, stop, None) for start, stop in self._bare]
            if self._leaked_in is not None:
                lines.append(leaked_line(self._leaked_in))
            self._append(lines)
            sync(self._log.fileno())
        sync_folder(self._directory.partial)
        self.validator = validator

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """See `Draft.write`."""
        start, crc = offset, 0
        with self._lock:
            for some in _writes(buffers):
                offset = self._write(offset, some)
            for buffer in buffers:
                crc = zlib.crc32(buffer, crc)
            self._spans.append((start, offset))
            self._append([written_line(start, offset, crc)])

    def _write(self, offset: int, buffers: Sequence[memoryview]) -> int:
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

    def leak(self) -> None:
        """See `Draft.leak`."""
        with self._lock:
            boot = self._directory.boot if self._leaked_in is None else self._leaked_in
            self._append([leaked_line(boot)])
            sync(self._log.fileno(), data_only=True)
        self._leaked_in = boot

    def drop(self, start: int, stop: int, *, leaked: bool) -> None:
        """See `Draft.drop`."""
        if leaked:
            self._directory.mark(self.expected.key)
        with self._lock:
            self._append(dropped_lines(start, stop, self._spans, self._bare, self._crc))
            self._spans = without(self._spans, start, stop)
            self._bare = self._bare.remove(start, stop)

    def record(self) -> None:
        """See `Draft.record`. What a sync in vain should have written is lost, although the next one succeeds (fsync(2))."""
        try:
            sync(self.file.fileno(), data_only=True)
        except OSError:
            self._sync_failed = True
            raise
        sync(self._log.fileno(), data_only=True)

    def commit(self, proof: Proof) -> str:
        """See `Draft.commit`."""
        key = self.expected.key if self.expected.has_digest else proof.sha256.hex()
        for at in range(0, self.expected.size if self._sync_failed else 0, READ):
            self._write(at, [memoryview(os.pread(self.file.fileno(), READ, at))])
        sync(self.file.fileno())
        self.identity = identity(self.file)  # before it has a name that others can open
        target = self._directory.path(key)
        give_name(self._data, target, proof, self.expected.source, self.validator or {})
        with contextlib.suppress(OSError):  # without its data it is swept at the next start
            self._journal.unlink(missing_ok=True)
        return key

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """See `Draft.reject`.

        The mark comes first: without it and the journal nobody knows that wrong bytes were sent. Then the journal goes:
        without it nothing believes the bytes any more.
        """
        if leaked:
            self._directory.mark(self.expected.key)
        self._journal.unlink(missing_ok=True)
        if aside:
            self._directory.set_aside(self._data, self.expected.key)
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


def _writes(buffers: Iterable[bytes]) -> Iterator[list[memoryview]]:
    """The same bytes in parts, each for one write."""
    some: list[memoryview] = []
    room = AT_ONCE
    for buffer in buffers:
        rest = memoryview(buffer)
        while rest:
            some.append(rest[:room])
            room -= len(some[-1])
            rest = rest[len(some[-1]) :]
            if not room or len(some) == MAX_BUFFERS:
                yield some
                some, room = [], AT_ONCE
    if some:
        yield some


Crc = Callable[[int, int], int | None]
"""The CRC-32 of so many bytes of the data at an offset; None where they are not there."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The part of a journal that its data confirms.

    Attributes:
        validator: the generation; None where no byte is there.
        spans: bytes that are there.
        bare: those of them that have no CRC-32.
        leaked_in: the boot of the machine in which bytes were sent that may be wrong; empty: not known; None: none were.
    """

    validator: Validator | None = None
    spans: tuple[Span, ...] = ()
    bare: tuple[Span, ...] = ()
    leaked_in: str | None = None


def header_line(size: int, source: str, validator: Validator) -> bytes:
    """The first line."""
    return _line({"size": size, "source": source, "validator": dict(validator)})


def written_line(start: int, stop: int, crc: int | None) -> bytes:
    """Bytes that were written, or were there before (None)."""
    return _line({"start": start, "stop": stop, "crc32": crc})


def dropped_lines(
    start: int, stop: int, spans: Iterable[Span], bare: Intervals, crc: Crc
) -> Iterator[bytes]:
    """Bytes of `spans` that were wrong; those in `bare` have no CRC-32."""
    yield _line({"dropped": [start, stop]})
    torn = [span for span in spans if span[0] < stop and start < span[1]]
    for a, b in without(torn, start, stop):
        if a in bare:
            yield written_line(a, b, None)
        elif (found := crc(a, b - a)) is not None:
            yield written_line(a, b, found)


def leaked_line(boot: str) -> bytes:
    """Bytes were sent that may be wrong, in this boot of the machine."""
    return _line({"leaked": boot})


def _line(event: object) -> bytes:
    """One line of the journal."""
    return json.dumps(event).encode() + b"\n"


def without(spans: Iterable[Span], start: int, stop: int) -> list[Span]:
    """`spans` without [start, stop)."""
    parts = (part for a, b in spans for part in ((a, min(b, start)), (max(a, stop), b)))
    return [(a, b) for a, b in parts if a < b]


def recover(lines: Sequence[bytes], size: int, crc: Crc) -> Recovered:
    """Read a journal of a blob of this size. Raises OSError where its data cannot be read."""
    match [_event(text) for text in lines if text]:
        case [{"size": known, "validator": dict(validator)}, *rest] if known == size:
            spans: list[Span] = []
            bare: list[Span] = []
            leaked_in: str | None = None
            for happened in rest:
                match happened:
                    case {"start": int(start), "stop": int(stop), "crc32": int(checksum)}:
                        if 0 <= start < stop <= size and crc(start, stop - start) == checksum:
                            spans.append((start, stop))
                    case {"start": int(start), "stop": int(stop), "crc32": None}:
                        if 0 <= start < stop <= size and crc(stop - 1, 1) is not None:
                            spans.append((start, stop))
                            bare.append((start, stop))
                    case {"dropped": [int(start), int(stop)]}:
                        spans = without(spans, start, stop)
                        bare = without(bare, start, stop)
                    case {"leaked": str(boot)}:
                        leaked_in = boot if leaked_in in (None, boot) else ""
                    case {
                        "leaked": True
                    } | None:  # of an older version; what cannot be read may have said so
                        leaked_in = ""
            return Recovered(validator if spans else None, tuple(spans), tuple(bare), leaked_in)
    return Recovered()


def _event(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class IncomingFile:
    """See `store.Incoming`."""

    def __init__(self, data: Path, target: Path, source: str) -> None:
        self._data = data
        self._target = target
        self._source = source
        self._file = data.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """See `store.Incoming`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self) -> Identity:
        """See `store.Incoming`."""
        sync(self._file.fileno())
        found = identity(self._file)
        self._file.close()
        return found

    def commit(self, proof: Proof) -> None:
        """See `store.Incoming`."""
        give_name(self._data, self._target, proof, self._source, {})

    def close(self) -> None:
        """See `store.Incoming`."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._data.unlink(missing_ok=True)
