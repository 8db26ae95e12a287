"""Verifies a complete payload: digests, operations and signatures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from omaha_mirror.payload.header import Span, exactly
from omaha_mirror.payload.keys import Key
from omaha_mirror.payload.manifest import Manifest, read_metadata
from omaha_mirror.payload.operation_digests import OperationDigests
from omaha_mirror.payload.signature import Signed, SignedPrefix

CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification.

    Attributes:
        manifest: of the payload.
        sha256: 32 raw bytes, of the whole file.
        sha1: 20 raw bytes, of the whole file.
        signed: its signatures, checked with the given keys.
        wrong: the operations whose data has another digest than the manifest.
    """

    manifest: Manifest
    sha256: bytes
    sha1: bytes
    signed: Signed
    wrong: tuple[Span, ...]


def verify(file: BinaryIO, keys: Sequence[Key] = ()) -> Report:
    """Read a payload of any size from front to back, a bounded piece at a time.

    Args:
        file: a regular file.
        keys: that may have signed it.

    Raises:
        NotAPayload: the file is no payload.
        PayloadError: no client would accept it.
        OSError: reading failed, or the file shrank meanwhile.
    """
    size = os.fstat(file.fileno()).st_size
    operations, prefix = OperationDigests(size), SignedPrefix(size)
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False)
    wrong: list[Span] = []

    def read(offset: int, count: int) -> bytes:
        return os.pread(file.fileno(), count, offset)

    manifest = read_metadata(read, size)
    for start in range(0, size, CHUNK):
        stop = min(start + CHUNK, size)
        data = exactly(read, start, stop - start)
        for taker in (sha256, sha1, prefix):
            taker.update(data)
        wrong += operations.examine([(0, stop)], read, budget=size).wrong
    return Report(manifest, sha256.digest(), sha1.digest(), prefix.judge(keys), tuple(wrong))
