"""Versions and digests: values of the protocol."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Self

from omaha_mirror.omaha.errors import BadDigest, BadVersion

MAX_LENGTH = 128

_VERSION = re.compile(
    r"(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
    r"(?:-(?P<pre>[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*))?"
    r"(?:\+[0-9A-Za-z._-]+)?"
)

_Identifier = tuple[bool, int, str]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A readable version; made by `Version.parse`, compared with `<`, `==` and so on.

    Attributes:
        text: The version as it was written; not part of any comparison.
        key: What is compared: numeric parts without trailing zeros, whether it is a release,
            and the pre-release identifiers as (is not a number, number, text).

    >>> Version.parse("4230.2.1-github-pr-12") < Version.parse("4230.2.1")
    True
    """

    text: str = field(compare=False)
    key: tuple[tuple[int, ...], bool, tuple[_Identifier, ...]] = field(repr=False)

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "Version":
        """Read a version such as `3815.2.0`, `4230.2.1-github-pr-12` or `3815.2.5+nightly`.

        Raises:
            BadVersion: If it is not one, or is longer than 128 characters.
        """
        match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise BadVersion(
                f"cannot read the version {text[:80]!r}: expected numbers with dots, such as"
                " 3815.2.0 or 3815.2.0-dev"
            )
        numbers = [int(part) for part in match["numbers"].split(".")]
        while numbers and numbers[-1] == 0:
            numbers.pop()
        pre = match["pre"]
        identifiers = tuple(map(_identifier, pre.split("."))) if pre else ()
        return Version(text, (tuple(numbers), not pre, identifiers))

    def __str__(self) -> str:
        return self.text


def _identifier(text: str) -> _Identifier:
    """SemVer 2.0 section 11.4: numbers count as numbers and stand below words."""
    return (False, int(text), "") if text.isdecimal() else (True, 0, text)


Algorithm = Literal["sha1", "sha256"]

_SIZES: dict[str, int] = {"sha1": 20, "sha256": 32}
_HEX = re.compile(r"[0-9a-fA-F]*")


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-1 or SHA-256 digest.

    Attributes:
        algorithm: `sha1` or `sha256`.
        raw: The 20 or 32 bytes.

    Raises:
        BadDigest: If the algorithm is another one, or the length is not its own.
    """

    algorithm: Algorithm
    raw: bytes

    def __post_init__(self) -> None:
        size = _SIZES.get(self.algorithm)
        if size is None:
            raise BadDigest(f"unknown digest algorithm {self.algorithm!r}: use sha1 or sha256")
        if len(self.raw) != size:
            raise BadDigest(f"a {self.algorithm} digest has {size} bytes, not {len(self.raw)}")

    @classmethod
    def from_hex(cls, text: str, algorithm: Algorithm = "sha256") -> Self:
        """Read hexadecimal digits of either case, without spaces.

        Raises:
            BadDigest: If the alphabet or the length is wrong.
        """
        if len(text) % 2 or not _HEX.fullmatch(text):
            raise BadDigest(f"not a hexadecimal {algorithm}: {text[:80]!r}")
        return cls(algorithm, bytes.fromhex(text))

    @classmethod
    def from_base64(cls, text: str, algorithm: Algorithm = "sha256") -> Self:
        """Read canonical base64 (RFC 4648 section 4, padded, zero pad bits).

        Raises:
            BadDigest: If the alphabet, the padding or the length is wrong.
        """
        try:
            raw = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raw = b""
        if not raw or base64.b64encode(raw).decode() != text:
            raise BadDigest(f"not a base64 {algorithm}: {text[:80]!r}")
        return cls(algorithm, raw)

    @property
    def hex(self) -> str:
        """The digest in lower-case hexadecimal."""
        return self.raw.hex()

    @property
    def base64(self) -> str:
        """The digest in padded base64."""
        return base64.b64encode(self.raw).decode()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
