"""The metadata of a payload (header and manifest) as its bytes come: how many, and their SHA-256.

Nothing in a payload speaks for them before its end: the signature does, and the digest of the whole.
"""

from __future__ import annotations

import hashlib

from omaha_mirror.payload.errors import PayloadError
from omaha_mirror.payload.header import HEADER_SIZE, read_header


class MetadataDigest:
    """Takes the bytes of a file in order, and swallows no more of them than the metadata has.

    Attributes:
        size: of the metadata in bytes; None until it is known, 0 where the file is no payload that a client would take.

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
        """The next bytes."""
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
        """32 raw bytes; None where some are lacking, or there are none."""
        return self._digest.digest() if self.size and not self._lacking else None
