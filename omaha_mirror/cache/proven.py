"""A proven blob that somebody reads: one open file for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from omaha_mirror.cache.errors import CacheError, GenerationEnded
from omaha_mirror.cache.follower import Follower
from omaha_mirror.cache.store import Place


class ProvenBlob:
    """All of it may leave at once.

    Args:
        file: opened for reading.
        size: in bytes.
        on_last: called when the last reader has left.
    """

    def __init__(
        self, file: BinaryIO, size: int, on_last: Callable[[], object] = lambda: None
    ) -> None:
        self.file = file
        self.size = size
        self._on_last = on_last
        self._followers: set[Follower] = set()
        self._wrong = ""

    def attach(self, follower: Follower) -> None:
        """Count a reader in."""
        self._followers.add(follower)

    def detach(self, follower: Follower) -> None:
        """Count a reader out."""
        if follower in self._followers:
            self._followers.remove(follower)
            if not self._followers:
                self._on_last()

    def edge(self, follower: Follower) -> int:
        """The end: everything may leave, unless it turned out wrong."""
        return follower.offset if self._wrong else max(follower.offset, self.size)

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie."""
        return Place(self.file, offset, self.size - offset)

    async def leave(self, start: int, stop: int) -> None:
        """Told that [start, stop) is about to be sent on."""

    def gave(self) -> None:
        """Proven bytes may leave: nothing to remember."""

    async def wait(self, follower: Follower) -> int:
        """Nothing to wait for: there is no such byte, or it is wrong. Raises CacheError."""
        if self._wrong:
            raise GenerationEnded(self._wrong)
        raise CacheError(f"byte {follower.offset} was asked for, the blob has {self.size}")

    def cut(self, reason: str) -> None:
        """Let nothing leave any more: the bytes are not what was proven once."""
        self._wrong = reason
        for follower in list(self._followers):
            follower.cut()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
