"""Port: where blobs are kept. All methods block and are called from worker threads, unless they say otherwise."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple, Protocol

from omaha_mirror.cache.blob import Expected, Head, Proof
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.source import Validator


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that was proven, on disk.

    Attributes:
        key: its name.
        size: in bytes.
        last_used: in seconds since the epoch.
        signed_by: the id of the key that signed it; "" where none did, or it is not known.
        is_whole: whether it still is a file, and of the size that its sidecar says, if that can be read.
        is_described: whether its sidecar can be read.
    """

    key: str
    size: int
    last_used: float
    signed_by: str = ""
    is_whole: bool = True
    is_described: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """The contents of a blob's sidecar.

    Attributes:
        size: in bytes; None where the sidecar cannot be read.
        sha256: 32 raw bytes, or None.
        proven_by: by which digest, or "".
        source: the URL, or "".
        signed_by: the id of the key that signed it, or "".
        validator: the generation that it was fetched as.
        verified: when its bytes were last found right, in seconds since the epoch; 0 where that is not known.
    """

    size: int | None = None
    sha256: bytes | None = None
    proven_by: str = ""
    source: str = ""
    signed_by: str = ""
    validator: Validator = field(default_factory=dict)
    verified: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a blob must not be served, as long as the terms are these, although its digest is right."""

    reason: str
    terms: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that is no proven blob: a growing one ("partial"), or wrong bytes that were put aside ("quarantine").

    Attributes:
        kind: see above.
        key: of the blob that it should have become.
        name: of the file.
        size: bytes on disk.
        changed: when it was last written or put aside, in seconds since the epoch.
    """

    kind: Literal["partial", "quarantine"]
    key: str
    name: str
    size: int
    changed: float


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that was removed, or would be."""

    kind: Literal["blob", "partial", "quarantine"]
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a garbage collection removed, and why that is not enough room ("" where it is)."""

    removed: tuple[Removed, ...]
    short: str = ""


class Identity(NamedTuple):
    """A file and the time of its last change, in nanoseconds.

    A change of its bytes changes this; reading it, moving it or recording its use does not.
    """

    device: int
    inode: int
    size: int
    written: int


def identity(file: BinaryIO) -> Identity:
    """Of an open file; waits for no disk. Raises OSError."""
    return file_facts(file.fileno())[0]


def identity_of(status: os.stat_result) -> Identity:
    """The same from a file's status."""
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes lie: `count` of them at `offset` of `file`, to be read with explicit offsets (pread, sendfile).

    Attributes:
        on_disk: False for a file in memory, which needs no disk.
    """

    file: BinaryIO
    offset: int
    count: int
    on_disk: bool = True


class Draft(Protocol):
    """A growing blob. It has no name among the proven blobs until `commit`."""

    @property
    def expected(self) -> Expected:
        """Size and digests that the blob must have."""

    @property
    def capacity(self) -> int | None:
        """How many bytes it holds at a time, where it discards the oldest; None where it keeps all."""

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie. Does not block."""

    @property
    def filled(self) -> Intervals:
        """The bytes that were on the disk when the draft was opened, each one checked. Does not block."""

    @property
    def validator(self) -> Validator | None:
        """The generation that these bytes belong to. Does not block."""

    @property
    def leaked(self) -> bool:
        """Whether bytes of it were sent that may be wrong. Does not block."""

    @property
    def is_torn(self) -> bool:
        """Whether some of these may be gone, so that others come in their place: in a power cut, or nobody can tell. Does not block."""

    @property
    def identity(self) -> Identity | None:
        """The committed file, as it was proven; None where the blob is not kept. Does not block."""

    def begin(self, validator: Validator) -> None:
        """Record the generation of the bytes, before the first is written."""

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        """Write `buffers` one after the other at `offset`. Raises OSError."""

    def read(self, offset: int, count: int) -> bytes:
        """Read back up to `count` bytes at `offset`. Raises OSError."""

    def leak(self) -> None:
        """Record, so that it survives a crash, that bytes are sent that may be wrong."""

    def drop(self, start: int, stop: int, *, leaked: bool) -> None:
        """Record that [start, stop) is wrong, and write a mark if some of it was sent."""

    def record(self) -> None:
        """Make all bytes that were written survive a power cut."""

    def commit(self, proof: Proof) -> str:
        """Make it a proven blob that survives a crash; gives its key."""

    def reject(self, *, aside: bool, leaked: bool) -> None:
        """Put the bytes of an ended generation aside, or remove them, and write a mark if some were sent."""

    def discard(self) -> None:
        """Remove it."""

    def close(self) -> None:
        """Close the files; what was recorded can be opened again."""


class Incoming(Protocol):
    """A blob of an import, written whole and in order. Nothing of it survives a crash before `commit`."""

    def write(self, data: bytes) -> None:
        """Write the next bytes. Raises OSError."""

    def finish(self) -> Identity:
        """End the writing, and make the bytes survive a power cut; gives the file's identity. Raises OSError."""

    def commit(self, proof: Proof) -> None:
        """Make it a proven blob that survives a crash, in place of one that is there. Raises OSError."""

    def close(self) -> None:
        """Close it, and remove it unless it was committed; a file that cannot be removed goes at the next start."""


class Store(Protocol):
    """A place for blobs."""

    def marks(self) -> dict[str, float]:
        """The keys of blobs whose wrong bytes were sent, and when, in seconds since the epoch. A time in the future becomes now."""

    def mark(self, key: str) -> None:
        """Record that bytes of a blob were sent that are wrong, or may be; it survives a power cut. Raises OSError."""

    def unmark(self, key: str) -> None:
        """Take that back; an error of the disk is ignored."""

    def refusals(self) -> dict[str, Refusal]:
        """The refused blobs, by their keys."""

    def refuse(self, key: str, refusal: Refusal) -> None:
        """Record that a blob must not be served; an error of the disk is ignored."""

    def heads(self) -> dict[str, Head]:
        """The recorded heads, by the keys of their blobs, oldest first. Raises OSError."""

    def keep_head(self, key: str, head: Head) -> None:
        """Record the head of a blob; it stays when the blob goes. Raises OSError."""

    def load(self, *, signed: bool) -> list[Stored]:
        """List the proven blobs and sweep leftovers. Called once, before anything else. `signed`: whether it matters by which key."""

    def verifications(self) -> dict[str, float]:
        """When the bytes of each proven blob were last found right, by its key: 0 where that is not known."""

    def open(self, key: str) -> BinaryIO:
        """Open a proven blob.

        Raises:
            FileNotFoundError: there is none.
            Damaged: it is no file, or it cannot be read any more.
            OSError: it cannot be opened now.
        """

    def draft(self, expected: Expected) -> Draft:
        """Begin a growing blob, or go on with one that was recorded. Raises OSError."""

    def recheck(self, expected: Expected) -> Draft:
        """Open a proven blob to verify it again.

        Raises:
            FileNotFoundError: there is none.
            Damaged: it is no blob of the expected size.
            OSError: it cannot be opened now.
        """

    def incoming(self, expected: Expected) -> Incoming:
        """Begin a blob of an import; one at a time of a key. Raises OSError."""

    def begun(self, key: str) -> int:
        """Bytes on disk of a growing blob that was recorded; 0 where there is none."""

    def remove(self, key: str) -> None:
        """Remove a proven blob, if it is there."""

    def touch(self, key: str, now: float) -> None:
        """Record the time of the last use; an error of the disk is ignored."""

    def files(self) -> int | None:
        """How many more files can be made; None where the file system has no such number. Raises OSError."""

    def free(self) -> int:
        """Bytes left on the file system. Raises OSError."""

    def describe(self, key: str) -> Facts:
        """The contents of a blob's sidecar."""

    def verified(self, key: str, now: float) -> None:
        """Record that the bytes of a proven blob were found right; an error of the disk is ignored."""

    def quarantine_blob(self, key: str, *, leaked: bool) -> None:
        """Put a blob with wrong bytes aside, if it is there. `leaked`: some of them were sent."""

    def leftovers(self) -> list[Leftover]:
        """The growing blobs and the bytes that were put aside."""

    def discard(self, leftover: Leftover) -> None:
        """Remove one of them. Raises OSError."""

    def redate(self, leftover: Leftover, now: float) -> None:
        """Set the time of one of them, which lay in the future, to now; an error of the disk is ignored."""


AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000
WANTED = 0x0344
"""STATX_NLINK, STATX_MTIME, STATX_INO and STATX_SIZE."""
ROOM = 256
FIELDS = struct.Struct("<I12xI12xQQ64xqI12xII")
"""Of struct statx (linux/stat.h): mask, links, inode, size, mtime, then the device, whose place is the same everywhere."""


def _find_statx() -> Callable[..., int] | None:
    """The libc's statx, which `os` does not have; None where the libc does not have it either."""
    try:
        return ctypes.CDLL(None).statx
    except (AttributeError, OSError):
        return None


_statx = _find_statx()


def file_facts(fd: int) -> tuple[Identity, int]:
    """The identity of an open file, and how many names it has; waits for no disk. Raises OSError."""
    if _statx is not None:
        found = ctypes.create_string_buffer(ROOM)
        if _statx(fd, b"", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, WANTED, found) == 0:
            mask, names, inode, size, seconds, nanoseconds, *device = FIELDS.unpack_from(found)
            if mask & WANTED == WANTED:
                written = seconds * 10**9 + nanoseconds
                return Identity(os.makedev(*device), inode, size, written), names
    status = os.fstat(fd)
    return identity_of(status), status.st_nlink
