"""The releases of a simulated site: small payloads with everything that large ones have."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache

from omaha_mirror.payload import update_metadata_pb2 as pb
from tests.payload.build import build
from tests.support.mirror import PAYLOAD

BOARD = "amd64-usr"
OLD = "3760.2.0"
"""What machines run at first."""
OEM = "oem-azure.gz"
EXTENSION = "flatcar-podman.gz"
KIB = 1024
NOOP_OPERATIONS = b"\x12"
"""The tag of field 2 of a manifest, which nobody reads (update_metadata.proto)."""


class _Vendor:
    """Signs as RSA would, as far as nobody has the key: the same bytes each time, and as many."""

    def sign(self, data: bytes, *_: object) -> bytes:
        return hashlib.shake_128(b"signature" + hashlib.sha256(data).digest()).digest(256)


@dataclass(frozen=True, slots=True)
class Release:
    """A version, and what its files are like.

    Attributes:
        version: of it.
        operations: bytes of each operation's data.
        metadata: bytes that its manifest has at least.
        with_extras: whether it has packages beside the payload.
    """

    version: str
    operations: tuple[int, ...]
    metadata: int = 0
    with_extras: bool = False

    @property
    def files(self) -> dict[str, bytes]:
        """The bytes of each package by its name, the payload first."""
        made = {PAYLOAD: _payload(self.version, self.operations, self.metadata)}
        if self.with_extras:
            made[OEM] = _payload(f"{self.version} oem", (6 * KIB,), 0)
            made[EXTENSION] = _random(f"{self.version} extension", 9 * KIB)
        return made

    @property
    def payload(self) -> bytes:
        """The bytes of the payload."""
        return self.files[PAYLOAD]

    @property
    def forged(self) -> bytes:
        """Another payload of the same size, as right in itself."""
        return replace(self, version=f"{self.version} forged").payload

    @property
    def longer(self) -> bytes:
        """Another payload, and more: its first bytes, as many as the right one has, are nothing."""
        other = replace(self, version=f"{self.version} longer").payload
        return other + _random(self.version, 1000)

    @property
    def marks(self) -> tuple[int, ...]:
        """Where something begins in the payload: metadata, operations, signatures, and its end."""
        return _marks(self)

    def path(self, name: str = PAYLOAD) -> str:
        """Of a package on the release server."""
        return f"/{BOARD}/{self.version}/{name}"


@cache
def _marks(release: Release) -> tuple[int, ...]:
    body = release.payload
    at = 20 + int.from_bytes(body[12:20], "big")
    found = [0, at]
    for count in release.operations:
        at += count
        found.append(at)
    return (*found, len(body))


@cache
def _payload(name: str, operations: tuple[int, ...], metadata: int) -> bytes:
    def edit(manifest: pb.DeltaArchiveManifest) -> None:
        if lacking := max(0, metadata - manifest.ByteSize()):
            rest = _random(f"{name} manifest", lacking)
            manifest.MergeFromString(NOOP_OPERATIONS + _varint(lacking) + rest)

    data = [_random(f"{name} {number}", count) for number, count in enumerate(operations)]
    vendor: list[tuple[int | None, object]] = [(2, _Vendor())]
    return build(data, signers=vendor, edit=edit)  # type: ignore[arg-type]  # signs in its place


def _varint(number: int) -> bytes:
    """As protocol buffers have it."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _random(name: str, count: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(count)


SHAPES = (
    Release("", (16 * KIB,) * 8),
    Release("", (64 * KIB, 1 * KIB, 48 * KIB), with_extras=True),
    Release("", (4 * KIB,) * 24, metadata=40 * KIB),
    Release("", (96 * KIB,), metadata=3 * KIB),
    Release("", (30_000, 7, 30_000, 12_345), metadata=20 * KIB, with_extras=True),
    Release("", (1500,) * 40),
)
"""Payloads of few and of many operations, with small and large manifests: 60 to 140 KiB."""
