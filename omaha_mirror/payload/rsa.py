"""RSA by way of cryptography, which takes 7 MB of memory: `keys` imports this with the first key."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

LEAST_BITS = 2048


def read_public(pem: bytes) -> RSAPublicKey:
    """The public key in a PEM block. Raises ValueError, which says what it is instead."""
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError('is no PEM public key ("-----BEGIN PUBLIC KEY-----")') from None
    if not isinstance(public, RSAPublicKey):
        raise ValueError("is no RSA key: clients know only signatures of RSA")
    if public.key_size < LEAST_BITS:
        raise ValueError(f"has {public.key_size} bits: fewer than {LEAST_BITS} prove nothing")
    return public


def id_of(public: RSAPublicKey) -> str:
    """See `Key.id`."""
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()[:16]


def made(public: RSAPublicKey, sha256: bytes, signature: bytes) -> bool:
    """See `Key.signed`."""
    try:
        public.verify(signature, sha256, PKCS1v15(), Prehashed(SHA256()))
    except InvalidSignature:
        return False
    return True
