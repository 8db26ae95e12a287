"""Answers that were made once, for all machines of a kind and all names that they know this mirror by."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable
from functools import lru_cache

from omaha_mirror.omaha import BadValue, codebase_problem
from omaha_mirror.omaha.element import escape

LIMIT = 16 * 1024 * 1024
"""Bytes of all answers that are kept."""
LARGE = LIMIT // 8
"""Bytes of one that is not kept, as it would push out too many others."""
ENTRY = 1000
"""Bytes that each one costs besides, about."""
HERE = f"http://{secrets.token_hex(16)}.invalid"
"""Stands in an answer for the address of this mirror. Nobody else can know it."""


class Answers:
    """The bytes of answers by what they are made of; those used last are kept.

    Args:
        limit: of the bytes of all.

    Attributes:
        size: bytes that are kept, about.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.size = 0
        self._limit = limit
        self._kept: dict[Hashable, tuple[list[bytes], int, object]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, shape: Hashable, base: str) -> bytes | None:
        """The answer of that shape to a client that knows this mirror as `base`; None: it must be made. Raises BadValue."""
        found = self._kept.pop(shape, None)
        if found is None:
            return None
        self._kept[shape] = found
        return _told(found[0], base)

    def make(
        self, shape: Hashable, base: str, make: Callable[[str], bytes], *, told: int, owner: object
    ) -> bytes:
        """Make it and keep it.

        Args:
            shape: all that it is made of.
            base: `scheme://host[:port]`.
            make: makes it for a base.
            told: bytes of what a client told in `shape`.
            owner: whose identity is part of the shape: it lives as long as the answer.

        Raises:
            BadValue: the base makes no address.
        """
        parts = make(HERE).split(HERE.encode())
        size = sum(map(len, parts)) + told + ENTRY
        if size <= min(LARGE, self._limit):
            self._kept[shape] = parts, size, owner
            self.size += size
        while self.size > self._limit:
            _, gone, _ = self._kept.pop(next(iter(self._kept)))
            self.size -= gone
        return _told(parts, base)


def _told(parts: list[bytes], base: str) -> bytes:
    return written(base).join(parts) if len(parts) > 1 else parts[0]


@lru_cache(1024)
def written(base: str) -> bytes:
    """An address as it is written in an answer. Raises BadValue where machines would not all read it alike."""
    if problem := codebase_problem(f"{base}/"):
        raise BadValue(f"the address {base[:200]!r} {problem}")
    return escape(base).encode()
