"""The first 20 bytes: "CrAU", the format's version, and the size of the manifest that follows.

update_engine does not look at the version; ue-rs takes 1 alone, and no other was ever made for these clients.
"""

from __future__ import annotations

from omaha_mirror.payload.errors import NotAPayload, PayloadError

MAGIC = b"CrAU"
HEADER_SIZE = 20
FORMAT_VERSION = 1
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes. A full payload has about 60 for each MiB of its image; one made to blow up takes 30 times its size to parse."""


def read_header(header: bytes, size: int) -> int:
    """Where the manifest ends and the data of the operations begins, in bytes from the start of the file.

    Args:
        header: the first `HEADER_SIZE` bytes, or all of a shorter file.
        size: of the whole file, in bytes.

    Raises:
        NotAPayload: the file is something else.
        PayloadError: another format, or no such manifest can be in a file of this size.
    """
    if header[: len(MAGIC)] != MAGIC:
        raise NotAPayload('not an update payload: it does not begin with "CrAU"', 0)
    if len(header) < HEADER_SIZE:
        raise PayloadError(f"the file ends within the header of {HEADER_SIZE} bytes", len(header))
    version = int.from_bytes(header[4:12], "big")
    if version != FORMAT_VERSION:
        raise PayloadError(f"format version {version}; clients take {FORMAT_VERSION} alone", 4)
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
