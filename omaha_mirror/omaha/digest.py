"""One type for a digest; base64 and hex exist only at the border.

The field disagrees about the text form: `package/@hash` is base64 SHA-1, `package/@hash_sha256`
is hex SHA-256 and `action/@sha256` is base64 SHA-256 (ue-rs omaha/src/response.rs and
update_engine omaha_request_action.cc:344 read them so).
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Literal, Self

from omaha_mirror.omaha.errors import BadDigest

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
