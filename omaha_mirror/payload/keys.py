"""The vendor's public keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

SIZE_LIMIT = 64 * 1024
"""Bytes of a PEM file."""


class BadKey(Exception):
    """A public key cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Key:
    """An RSA public key, such as a machine has as /usr/share/update_engine/update-payload-key.pub.pem.

    Attributes:
        id: 16 hexadecimal digits: the first of the SHA-256 of the key's SubjectPublicKeyInfo.
        name: its file, for people.
        public: the key.
    """

    id: str
    name: str
    public: RSAPublicKey

    def signed(self, sha256: bytes, signature: bytes) -> bool:
        """Whether this key made `signature` (PKCS #1 v1.5) over the data with the digest `sha256`."""
        from omaha_mirror.payload import rsa  # noqa: PLC0415 (see there)

        return rsa.made(self.public, sha256, signature)


def read_key(pem: bytes, name: str) -> Key:
    """Read a PEM file that holds one public key.

    Raises:
        BadKey: the file holds no key, or one that clients cannot use safely.
    """
    if b"PRIVATE KEY" in pem:
        raise BadKey(
            f"{name} is a private key: give its public one, made by `openssl rsa -in FILE -pubout`"
        )
    if pem.count(b"-----BEGIN ") > 1:
        raise BadKey(f"{name} holds more than one PEM block: put each key in a file of its own")
    from omaha_mirror.payload import rsa  # noqa: PLC0415 (see there)

    try:
        public = rsa.read_public(pem)
    except ValueError as error:
        raise BadKey(f"{name} {error}") from None
    return Key(rsa.id_of(public), name, public)


def read_pem(path: Path) -> bytes:
    """Read a PEM file, and check that it holds one key.

    Raises:
        BadKey: the file cannot be read, or the key not used.
    """
    try:
        with path.open("rb") as file:
            pem = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BadKey(f"{path} cannot be read: {error.strerror}") from None
    if len(pem) > SIZE_LIMIT:
        raise BadKey(f"{path} is larger than {SIZE_LIMIT} bytes: no PEM public key")
    read_key(pem, str(path))
    return pem


def load_keys(paths: Iterable[Path]) -> tuple[Key, ...]:
    """Read PEM files, one key each.

    Raises:
        BadKey: a file cannot be read, or its key not used.
    """
    return tuple(read_key(read_pem(path), str(path)) for path in paths)
