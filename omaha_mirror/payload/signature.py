"""The signatures of a payload: RSA, PKCS #1 v1.5, SHA-256, over all of the file before the signatures.

Flatcar's payloads have two signatures, of versions 1 and 2. update_engine checks only the first of version 2
(payload_signer.cc:23, 206-213); ue-rs accepts a payload if any of its signatures is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.header import PayloadError
from omaha_mirror.payload.keys import Key
from omaha_mirror.payload.manifest import Manifest, read_metadata_if_ready

CLIENT_VERSION = 2
"""The version that update_engine looks for."""
MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature.

    Attributes:
        version: names the clients that check it; None if it has none.
        key: the given key that made it over these bytes; None if none did.
    """

    version: int | None
    key: Key | None


@dataclass(frozen=True, slots=True)
class Signed:
    """The signatures of a payload, checked with certain keys.

    Attributes:
        signatures: in file order; none if it is unsigned.
    """

    signatures: tuple[Signature, ...]

    @property
    def valid_for_update_engine(self) -> bool:
        """Whether update_engine, with one of the keys, accepts it."""
        looked_at = (s for s in self.signatures if s.version == CLIENT_VERSION)
        first = next(looked_at, None)
        return first is not None and first.key is not None

    @property
    def valid_for_ue_rs(self) -> bool:
        """Whether ue-rs, with one of the keys, accepts it."""
        return any(signature.key is not None for signature in self.signatures)


class SignedPrefix:
    """Checks the signatures of a payload from its bytes in order; no byte is read twice.

    Args:
        size: of the whole file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.manifest: Manifest | None = None
        self._size = size
        self._position = 0
        self._metadata = bytearray()
        self._digest = hashlib.sha256()
        self._signatures = bytearray()

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes.

        Raises:
            PayloadError: it is no payload that a client would accept; further bytes change nothing.
        """
        if self.manifest is not None:
            self._take(self.manifest, data)
            return
        self._metadata += data
        held = self._metadata
        self.manifest = read_metadata_if_ready(
            lambda at, n: bytes(held[at : at + n]), len(held), self._size
        )
        if self.manifest is not None:
            self._metadata = bytearray()
            self._take(self.manifest, held)

    def _take(self, manifest: Manifest, data: bytes | bytearray | memoryview) -> None:
        signed = max(0, manifest.data_stop - self._position)
        self._digest.update(data[:signed])
        self._signatures += data[signed:]
        self._position += len(data)

    def judge(self, keys: Sequence[Key]) -> Signed:
        """The checked signatures, after all bytes.

        Raises:
            PayloadError: the signatures cannot be read.
        """
        if self.manifest is None or self._position != self._size:
            raise RuntimeError(f"{self._position} of {self._size} bytes were taken")
        digest = self._digest.digest()
        parsed = _parse(bytes(self._signatures), self.manifest.data_stop)
        return Signed(
            tuple(
                Signature(
                    message.version if message.HasField("version") else None,
                    next((key for key in keys if key.signed(digest, message.data)), None),
                )
                for message in parsed
            )
        )


def _parse(blob: bytes, offset: int) -> Iterable[pb.Signatures.Signature]:
    try:
        signatures = pb.Signatures.FromString(blob).signatures
    except DecodeError:
        raise PayloadError("the signatures cannot be parsed", offset) from None
    if len(signatures) > MAX_SIGNATURES:
        raise PayloadError(f"{len(signatures)} signatures are more than {MAX_SIGNATURES}", offset)
    return signatures
