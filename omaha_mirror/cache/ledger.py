"""Size accounting: who takes how much room, and who must go when more is needed. Pure; times are passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omaha_mirror.cache.errors import NeverFits, NoRoomNow

FILES = 4
"""Files that a fill makes at most: its data, its journal, a sidecar, a folder."""
FREED = 2
"""Files that go with a blob: its data and its sidecar."""


@dataclass(slots=True)
class Entry:
    """A proven blob: bytes on disk, and when it was last used (seconds since the epoch)."""

    size: int
    last_used: float


@dataclass(slots=True)
class Reservation:
    """A fill's room: the whole size counts from the start; `written` of it is on disk already."""

    size: int
    written: int = 0


class Ledger:
    """Books of one cache directory.

    Args:
        max_size: bytes that blobs and fills may take together.
        min_free: bytes that must stay free on the file system.
    """

    def __init__(self, max_size: int, min_free: int) -> None:
        self.max_size = max_size
        self.min_free = min_free
        self.entries: dict[str, Entry] = {}
        self.reserved: dict[str, Reservation] = {}
        self._proven = 0

    @property
    def used(self) -> int:
        """Bytes of proven blobs and of reserved room."""
        return self._proven + sum(room.size for room in self.reserved.values())

    def victims(
        self,
        size: int,
        *,
        free: int,
        keep: Callable[[str], bool],
        written: int = 0,
        files: int | None = None,
    ) -> list[str]:
        """Which blobs must go so that `size` more bytes fit, least recently used first.

        Args:
            size: bytes that are to be reserved.
            written: how many of them are on disk already.
            free: bytes that the file system has left now.
            keep: whether a blob must stay (in use, pinned, now offered).
            files: that the file system can still take, whatever their size; None where it does not say.

        Raises:
            NeverFits: larger than the whole cache may be.
            NoRoomNow: what may go is not enough.
        """
        if size > self.max_size:
            raise NeverFits(
                f"{size} bytes do not fit into a cache of at most {self.max_size} bytes"
            )
        promised = sum(max(0, room.size - room.written) for room in self.reserved.values())
        over = self.used + size - self.max_size
        short = max(0, size - written) + promised + self.min_free - free
        few = 0 if files is None else FILES * (len(self.reserved) + bool(size)) - files
        gone: list[str] = []
        if over <= 0 and short <= 0 and few <= 0:
            return gone
        may_go = [item for item in self.entries.items() if not keep(item[0])]
        for key, entry in sorted(may_go, key=lambda item: item[1].last_used):
            if over <= 0 and short <= 0 and few <= 0:
                break
            gone.append(key)
            over -= entry.size
            short -= entry.size
            few -= FREED
        if over > 0:
            raise NoRoomNow(
                f"{over} bytes over max_size, and all other blobs are in use or offered"
            )
        if short > 0:
            raise NoRoomNow(f"the disk is {short} bytes short of keeping min_free free")
        if few > 0:
            raise NoRoomNow(f"the file system of the disk can take {files} more files (inodes)")
        return gone

    def reserve(self, key: str, size: int, written: int = 0) -> None:
        """Book room for a fill."""
        self.reserved[key] = Reservation(size, written)

    def wrote(self, key: str, total: int) -> None:
        """Note that `total` bytes of a reservation are on disk."""
        if key in self.reserved:
            self.reserved[key].written = total

    def release(self, key: str) -> None:
        """Give a fill's room back."""
        self.reserved.pop(key, None)

    def settle(self, key: str, size: int, now: float) -> None:
        """Book a proven blob; a reservation under the same key ends."""
        self.release(key)
        self.remove(key)
        self.entries[key] = Entry(size, now)
        self._proven += size

    def touch(self, key: str, now: float) -> None:
        """Note a use."""
        if key in self.entries:
            self.entries[key].last_used = max(now, self.entries[key].last_used)

    def remove(self, key: str) -> None:
        """Forget a blob that is gone."""
        if (entry := self.entries.pop(key, None)) is not None:
            self._proven -= entry.size
