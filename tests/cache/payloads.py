"""A payload of many operations, and where they are."""

import hashlib
from collections.abc import Sequence

from omaha_mirror.cache.prover import Span
from omaha_mirror.payload import read_metadata
from tests.payload.build import Signer, build, private_key, reading


def pieces(count: int, size: int, seed: bytes = b"payload") -> list[bytes]:
    return [hashlib.shake_128(seed + i.to_bytes(4, "big")).digest(size) for i in range(count)]


def signed(data: Sequence[bytes], name: str = "vendor", version: int = 2) -> bytes:
    signer: Signer = (version, private_key(name))
    return build(data, signers=[signer])


def operations(payload: bytes) -> list[Span]:
    """The bytes of each."""
    return [(o.start, o.stop) for o in read_metadata(reading(payload), len(payload)).operations]
