"""A blob before and after its proof: the digests that are expected, and those that were found."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

ProvenBy = Literal["sha256", "sha1", "size-and-validator"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a blob before its first byte is fetched.

    Attributes:
        size: total size in bytes.
        sha256: 32 raw bytes, or None where it is not known.
        sha1: 20 raw bytes, or None.
        source: the URL, for people and, where no digest is known, for the key.
        key: the name of the blob in the cache: two generations never share one.
    """

    size: int
    sha256: bytes | None = None
    sha1: bytes | None = None
    source: str = field(default="", compare=False)
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.sha256 is not None:
            key = self.sha256.hex()
        elif self.sha1 is not None:
            key = f"sha1-{self.sha1.hex()}"
        else:
            key = "url-" + hashlib.sha256(f"{self.size} {self.source}".encode()).hexdigest()
        object.__setattr__(self, "key", key)

    @property
    def has_digest(self) -> bool:
        """Whether a digest is known that will judge the bytes."""
        return self.sha256 is not None or self.sha1 is not None

    @property
    def proven_by(self) -> ProvenBy:
        """What will count as proof. SHA-1 alone is weak; size and validator alone are weaker."""
        if self.sha256 is not None:
            return "sha256"
        return "sha1" if self.sha1 is not None else "size-and-validator"


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a blob that no digest inside it covers (of an update payload: header and manifest).

    Attributes:
        size: in bytes.
        sha256: of these bytes, 32 raw ones.
    """

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The digests and the signature that a complete blob was found to have.

    Attributes:
        size: in bytes.
        sha256: 32 raw bytes.
        sha1: 20 raw bytes, or None where none was expected.
        proven_by: by which digest.
        signed_by: the id of the key that signed it, or "" where no signature is required.
        head: of the blob; None where it has none.
    """

    size: int
    sha256: bytes
    sha1: bytes | None
    proven_by: ProvenBy
    signed_by: str = ""
    head: Head | None = None


class Hasher:
    """Runs the digests of a blob over its bytes in order."""

    def __init__(self, expected: Expected) -> None:
        self.position = 0
        self._expected = expected
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False) if expected.sha1 is not None else None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        if self._sha1 is not None:
            self._sha1.update(data)
        self.position += len(data)

    def judge(self) -> Proof | str:
        """The proof, or a sentence that says what is wrong."""
        expected, sha256 = self._expected, self._sha256.digest()
        sha1 = self._sha1.digest() if self._sha1 is not None else None
        if self.position != expected.size:
            return f"{self.position} bytes instead of {expected.size}"
        if expected.sha256 is not None and sha256 != expected.sha256:
            return f"SHA-256 is {sha256.hex()}, expected {expected.sha256.hex()}"
        if sha1 is not None and expected.sha1 is not None and sha1 != expected.sha1:
            return f"SHA-1 is {sha1.hex()}, expected {expected.sha1.hex()}"
        return Proof(expected.size, sha256, sha1, expected.proven_by)
