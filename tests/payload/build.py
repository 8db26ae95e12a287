"""Makes payloads, right or wrong in one thing, and the keys that sign them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from omaha_mirror.payload import Key, read_key
from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.header import Read

DATA = Path(__file__).parent.parent / "data" / "payloads"
BITS = 2048

Edit = Callable[[pb.DeltaArchiveManifest], None]
Signer = tuple[int | None, RSAPrivateKey]


@cache
def private_key(name: str) -> RSAPrivateKey:
    """A key of its own for each name, made at its first use."""
    return generate_private_key(public_exponent=65537, key_size=BITS)


def pem(name: str) -> bytes:
    public = private_key(name).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_key(name: str) -> Key:
    return read_key(pem(name), name)


def unchanged(manifest: pb.DeltaArchiveManifest) -> None:
    """The edit of a payload that is right."""


def build(
    data: Sequence[bytes],
    *,
    kernel: Sequence[bytes] = (),
    signers: Sequence[Signer] = (),
    edit: Edit = unchanged,
) -> bytes:
    """A full payload with an operation for each piece of data; `edit` may spoil the manifest before it is signed."""
    manifest = pb.DeltaArchiveManifest()
    manifest.new_partition_info.size = 4096 * len(data)
    manifest.new_partition_info.hash = hashlib.sha256(b"partition").digest()
    manifest.partition_operations.extend(_operations(data, 0))
    position = sum(map(len, data))
    if kernel:
        procedure = manifest.procedures.add(type=0)
        procedure.new_info.size = 4096
        procedure.new_info.hash = hashlib.sha256(b"kernel").digest()
        procedure.operations.extend(_operations(kernel, position))
        position += sum(map(len, kernel))
    if signers:
        manifest.signatures_offset = position
        manifest.signatures_size = len(_signatures(b"", signers))
    edit(manifest)
    prefix = with_header(manifest.SerializeToString()) + b"".join([*data, *kernel])
    return prefix + _signatures(prefix, signers)


def with_header(manifest: bytes) -> bytes:
    return b"CrAU" + (1).to_bytes(8, "big") + len(manifest).to_bytes(8, "big") + manifest


def reading(data: bytes) -> Read:
    """What reads `data` as os.pread reads a file."""
    return lambda offset, count: data[offset : offset + count]


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def _operations(data: Sequence[bytes], position: int) -> Iterator[pb.InstallOperation]:
    for piece in data:
        yield pb.InstallOperation(
            type=1,
            data_offset=position,
            data_length=len(piece),
            data_sha256_hash=hashlib.sha256(piece).digest(),
        )
        position += len(piece)


def _signatures(prefix: bytes, signers: Sequence[Signer]) -> bytes:
    blob = pb.Signatures()
    for version, key in signers:
        blob.signatures.add(version=version, data=key.sign(prefix, PKCS1v15(), SHA256()))
    return blob.SerializeToString()
