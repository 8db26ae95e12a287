"""The head of a payload, its errors, and how a file is read.

The first 20 bytes are "CrAU", the format's version, and the size of the manifest that follows. update_engine does not look
at the version; ue-rs accepts only 1, and no other exists for these clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

MAGIC = b"CrAU"
HEADER_SIZE = 20
FORMAT_VERSION = 1
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes. A full payload has about 60 for each MiB of its image; a hostile one takes 30 times its size to parse."""

Span = tuple[int, int]
"""Bytes [start, stop) of a file."""
Read = Callable[[int, int], bytes]
"""Gives up to `count` bytes at `offset`, as os.pread does; raises OSError."""


class PayloadError(Exception):
    """The bytes are no payload that a client would accept.

    Attributes:
        message: one line for people: the error, and what was expected.
        offset: its byte in the file.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.message = message
        self.offset = offset


class NotAPayload(PayloadError):
    """The file is no payload."""


def exactly(read: Read, offset: int, count: int) -> bytes:
    """Exactly `count` bytes at `offset`. Raises OSError, also if the file has fewer."""
    data = bytearray()
    while len(data) < count:
        more = read(offset + len(data), count - len(data))
        if not more:
            raise OSError(f"the file ends at byte {offset + len(data)}, before {offset + count}")
        data += more
    return bytes(data)


def read_header(header: bytes, size: int) -> int:
    """The end of the manifest, where the data of the operations begins, in bytes from the start of the file.

    Args:
        header: the first `HEADER_SIZE` bytes, or all of a shorter file.
        size: of the whole file, in bytes.

    Raises:
        NotAPayload: the file is no payload.
        PayloadError: another format, or no such manifest can be in a file of this size.
    """
    if header[: len(MAGIC)] != MAGIC:
        raise NotAPayload('not an update payload: it does not begin with "CrAU"', 0)
    if len(header) < HEADER_SIZE:
        raise PayloadError(f"the file ends within the header of {HEADER_SIZE} bytes", len(header))
    version = int.from_bytes(header[4:12], "big")
    if version != FORMAT_VERSION:
        raise PayloadError(f"format version {version}; clients accept only {FORMAT_VERSION}", 4)
    manifest_size = int.from_bytes(header[12:20], "big")
    if manifest_size > size - HEADER_SIZE:
        raise PayloadError(
            f"a manifest of {manifest_size} bytes does not fit a file of {size}: truncated or damaged",
            12,
        )
    if manifest_size > MANIFEST_LIMIT:
        raise PayloadError(
            f"a manifest of {manifest_size} bytes is more than the {MANIFEST_LIMIT} read here", 12
        )
    return HEADER_SIZE + manifest_size


class MetadataDigest:
    """The digest of a payload's metadata (header and manifest), from the bytes of the file in order.

    Only the signature and the digest of the whole file cover these bytes, so nothing verifies them before the end.

    Attributes:
        size: of the metadata in bytes; None until it is known, 0 if the file is no payload that a client would accept.

    Args:
        file_size: of the whole file, in bytes.
    """

    def __init__(self, file_size: int) -> None:
        self.size: int | None = None
        self._file_size = file_size
        self._start = b""
        self._lacking = 0
        self._digest = hashlib.sha256()

    def take(self, data: bytes) -> None:
        """Add the next bytes."""
        if self.size is None:
            data = self._start + data
            self._start = data[:HEADER_SIZE]
            if len(data) < min(HEADER_SIZE, self._file_size):
                return
            try:
                self.size = read_header(self._start, self._file_size)
            except PayloadError:
                self.size = 0
            self._lacking = self.size
        if self._lacking:
            part = data[: self._lacking]
            self._digest.update(part)
            self._lacking -= len(part)

    @property
    def sha256(self) -> bytes | None:
        """32 raw bytes; None if bytes are missing, or there is no metadata."""
        return self._digest.digest() if self.size and not self._lacking else None
