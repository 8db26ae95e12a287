"""Files and folders of a disk in memory: what is in them, and what of it a power cut cannot take any more."""

from __future__ import annotations

import random
import stat
from dataclasses import dataclass, field

BLOCK = 4096
SECTOR = 512


@dataclass(eq=False, slots=True)
class Inode:
    """What a file and a folder have in common; times are in nanoseconds."""

    number: int
    mode: int
    read: int = 0
    written: int = 0
    links: int = 0
    opened: int = 0


@dataclass(eq=False, slots=True)
class File(Inode):
    """A file.

    Attributes:
        data: its bytes.
        safe: what was synced last.
        dirty: blocks that were written since.
        lost: blocks whose sync failed: no later one writes them, as on Linux, where they count as clean.
        allocated: blocks that take room.
        cold: blocks that are not in memory.
    """

    data: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    allocated: set[int] = field(default_factory=set)
    cold: set[int] = field(default_factory=set)

    def get(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`."""
        return bytes(memoryview(self.data)[offset : offset + count])

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset`."""
        stop = offset + len(data)
        if len(self.data) < offset:
            self.resize(offset)
        self.data[offset:stop] = data
        self._changed(blocks(offset, stop))

    def resize(self, size: int) -> None:
        """Cut it, or add zeros that take no room."""
        if size < len(self.data):
            if edge := size % BLOCK:
                self.dirty |= {size // BLOCK} & self.allocated
            first = size // BLOCK + (edge > 0)
            for known in (self.dirty, self.lost, self.allocated, self.cold):
                known.difference_update([block for block in known if block >= first])
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def _changed(self, touched: range) -> None:
        self.dirty.update(touched)
        self.allocated.update(touched)
        self.lost.difference_update(touched)
        self.cold.difference_update(touched)

    def sync(self) -> None:
        """What was written is safe, but for what is lost."""
        if not self.lost:
            if self.dirty or len(self.safe) != len(self.data):
                self.safe = bytearray(self.data)
        else:
            _resize(self.safe, len(self.data))
            for block in self.dirty:
                self._keep(self.safe, block, BLOCK)
        self.dirty.clear()

    def fail_sync(self) -> None:
        """A sync failed: what should have been written counts as written, and is not."""
        self.lost |= self.dirty
        self.dirty.clear()

    def _keep(self, kept: bytearray, block: int, count: int) -> None:
        start = block * BLOCK
        stop = min(start + count, len(kept), len(self.data))
        kept[start:stop] = self.data[start:stop]

    def torn(self, rng: random.Random) -> bytearray:
        """What a power cut leaves: of each block that was not synced the old, the new, or sectors of both."""
        kept = bytearray(self.safe)
        fate = rng.choice(("old", "new", "mixed", "mixed"))
        if fate == "old":
            return kept
        sizes = sorted((len(self.safe), len(self.data)))
        size = len(self.data) if fate == "new" else rng.choice([*sizes, rng.randint(*sizes)])
        _resize(kept, size)
        for block in sorted(self.dirty):
            whole = fate == "new" or rng.random() < 0.5
            some = SECTOR * rng.randrange(BLOCK // SECTOR) if rng.random() < 0.25 else 0
            self._keep(kept, block, BLOCK if whole else some)
        return kept


@dataclass(eq=False, slots=True)
class Folder(Inode):
    """A folder.

    Attributes:
        names: what is in it.
        moments: the names as they were when it was last synced, and after each change since.
    """

    names: dict[str, Inode] = field(default_factory=dict)
    moments: list[dict[str, Inode]] = field(default_factory=lambda: [{}])

    def changed(self) -> None:
        """A name came, went, or is another file's."""
        self.moments.append(dict(self.names))

    def sync(self) -> None:
        """Its names are safe."""
        self.moments = [dict(self.names)]

    def torn(self, rng: random.Random) -> dict[str, Inode]:
        """The names that a power cut leaves: as of any moment since the last sync."""
        first, last = self.moments[0], self.moments[-1]
        return dict(rng.choice([first, last, rng.choice(self.moments)]))


def is_folder(inode: Inode) -> bool:
    """Whether it is one."""
    return stat.S_ISDIR(inode.mode)


def blocks(start: int, stop: int) -> range:
    """The blocks that hold [start, stop)."""
    return range(start // BLOCK, -(-stop // BLOCK)) if start < stop else range(0)


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))
