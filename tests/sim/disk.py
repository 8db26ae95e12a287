"""A disk in memory, which is slow, full or failing as a schedule says, and keeps of a life what its end leaves.

`mounted` (see `file_calls`) puts it under the calls that the mirror makes. What was synced, of each file and of each folder,
survives a power cut; of what came after anything may: a block old, new or torn, the names as of any moment since.
A name that was renamed is in the old place, in the new one, or in both, never in none: file systems see to that.
Nothing depends on a machine: names are listed in an order that the seed gives, numbers of files that went are given
again at once, times are those of the clock that is given.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.sim.inodes import BLOCK, SECTOR, File, Folder, Inode, blocks, is_folder

Kind = Literal[
    "open", "read", "write", "truncate", "sync", "rename", "unlink", "mkdir", "utime", "stat",
    "statvfs", "list",
]  # fmt: skip
CHANGES = frozenset({"write", "truncate", "sync", "rename", "unlink", "mkdir", "create"})
"""After each of these the disk may end."""
FOREVER = 0
ROOM = 1 << 40
FILES = 1 << 20


class Dead(BaseException):
    """The process was killed, or has no power any more: nothing that it does from now on happens."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Calls that go wrong.

    Attributes:
        kind: of the calls.
        what: the name of an errno; "short" for a read or write of fewer bytes. EINTR is not seen (PEP 475): it takes a second call.
        nth: of the calls to come, the first that goes wrong; 1 is the next.
        times: how many do, one after the other; `FOREVER`: all, until `Disk.heal`.
        path: what the path of the file must contain.
    """

    kind: Kind
    what: str
    nth: int = 1
    times: int = 1
    path: str = ""


@dataclass(eq=False, slots=True)
class Opened:
    """An open file; two descriptors may share it."""

    disk: Disk
    inode: Inode
    path: str
    flags: int
    at: int = 0
    names: int = 1


@dataclass(eq=False)
class Disk:
    """See the module.

    Args:
        place: where it is mounted; need not exist.
        seed: of whatever is left to chance.
        wall: the time of day, in seconds since the epoch: dates files.
        now: seconds of a clock that is never set: a hanging disk goes by it.
        size: bytes that it has room for; None for plenty.
        count: files that it has room for; None for plenty.

    Attributes:
        dead: whether this life has ended.
        died: called when it ends by `end_at`.
        seconds: that a call takes.
        rate: bytes in a second; None for at once.
        strict: whether to note in `on_loop` the calls that wait outside of `begin` and `end`.
        calls: how many there were, by kind.
    """

    place: Path = Path("/sim")
    seed: int | str = 0
    wall: Callable[[], float] = time.time
    now: Callable[[], float] = time.monotonic
    size: int | None = None
    count: int | None = None
    seconds: float = 0.0
    rate: float | None = None
    strict: bool = False
    dead: bool = field(default=False, init=False)
    calls: Counter[str] = field(default_factory=Counter, init=False)
    on_loop: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.root = str(self.place)
        self.rng = random.Random(f"{self.seed} {self.root}")
        self.used = self.inodes = 0
        self.fds: dict[int, Opened] = {}
        self.died: Callable[[], None] = lambda: None
        self.locks: dict[Inode, list[Opened]] = {}
        self.replace: Callable[[Disk, Disk], None] | None = None
        self._free_numbers: list[int] = []
        self._next_number = 2
        self._faults: list[list[Fault | int]] = []
        self._hangs: list[tuple[float, str]] = []
        self._left: int | None = None
        self._took: float | None = None
        self.top = self.new_folder()
        self.top.links = 1

    # What a schedule does

    def fail(self, fault: Fault) -> None:
        """Have calls go wrong."""
        self._faults.append([fault, 0])

    def heal(self) -> None:
        """Let nothing go wrong any more, and nothing hang."""
        self._faults.clear()
        self._hangs.clear()

    def hang(self, until: float, path: str = "") -> None:
        """Have every call on files whose path contains `path` last until then, by `now`."""
        self._hangs.append((until, path))

    def end_at(self, n: int) -> None:
        """End before the n-th change from now."""
        self._left = n

    def rot(self, path: Path, offset: int) -> None:
        """Turn a bit of a file; nothing tells of it."""
        file = self.look_up(str(path))
        assert isinstance(file, File)
        for data in (file.data, file.safe):
            if offset < len(data):
                data[offset] ^= 1

    def begin(self) -> None:
        """A thread of the mirror's goes to work."""
        self._took = 0.0

    def end(self) -> float:
        """It is done: how many seconds its calls take in all."""
        took, self._took = self._took or 0.0, None
        return took

    # What is looked at from outside

    def open_files(self) -> list[str]:
        """The paths of all that is open, as they were when it was opened."""
        return sorted(opened.path for opened in self.fds.values())

    def files(self) -> dict[str, bytes]:
        """What is there."""
        return {path: bytes(inode.data) for path, inode in self.walk() if isinstance(inode, File)}

    def walk(self) -> Iterator[tuple[str, Inode]]:
        """All below the top, by path."""
        yield from _walk(self.top, self.root)

    # The end of a life

    def kill(self) -> Disk:
        """The disk of the next life, after a kill: all that was written is there."""
        return self._next_life(self.top)

    def power_cut(self, rng: random.Random) -> Disk:
        """The same after the power failed: of what was not synced anything may be there."""
        chosen: dict[Folder, dict[str, Inode]] = {}
        _choose(self.top, rng, chosen)
        _rescue(chosen, rng)
        return self._next_life(_left(self.top, chosen, rng))

    def _next_life(self, top: Folder) -> Disk:
        self.dead = True
        after = Disk(
            self.place, f"{self.seed}'", self.wall, self.now, self.size, self.count, self.seconds,
            self.rate,
        )  # fmt: skip
        after.adopt(top)
        if self.replace is not None:
            self.replace(self, after)
        return after

    def adopt(self, top: Folder) -> None:
        """Take over what another life left."""
        self.top = top
        found = [inode for _, inode in self.walk()]
        for number, inode in enumerate([top, *found], 2):
            inode.number, inode.opened, inode.links = number, 0, 1
        self._next_number = len(found) + 3
        self.inodes = len(found) + 1
        self.used = sum(len(inode.allocated) for inode in found if isinstance(inode, File))

    # What the calls are made of

    def step(self, kind: str, path: str, count: int = 0, *, waits: bool = True) -> bool:
        """A call is about to be made; gives whether it is to be short. Raises Dead, OSError."""
        if self.dead:
            raise Dead
        self.calls[kind] += 1
        if waits:
            self._spend(kind, path, count)
        if self._left is not None and kind in CHANGES:
            self._left -= 1
            if self._left <= 0:
                self.dead = True
                self.died()
                raise Dead
        return self._fault(kind, path) if self._faults else False

    def _spend(self, kind: str, path: str, count: int) -> None:
        if self._took is None:
            if self.strict:
                self.on_loop.append(f"{kind} {path.removeprefix(self.root)}")
            return
        self._took += self.seconds + (count / self.rate if self.rate else 0.0)
        for until, part in self._hangs:
            if part in path:
                self._took = max(self._took, until - self.now())

    def _fault(self, kind: str, path: str) -> bool:
        for known in self._faults:
            fault, seen = known
            assert isinstance(fault, Fault)
            assert isinstance(seen, int)
            if fault.kind != kind or fault.path not in path:
                continue
            known[1] = seen = seen + 1
            if fault.nth <= seen and (fault.times == FOREVER or seen < fault.nth + fault.times):
                if fault.what == "short":
                    return True
                if fault.what == "EINTR":
                    self._spend(kind, path, 0)
                    return False
                raise failure(getattr(errno, fault.what), path)
        return False

    def stamp(self) -> int:
        """The time of day in nanoseconds."""
        return int(self.wall() * 1e9)

    def new_file(self, mode: int) -> File:
        """A file without a name. Raises OSError."""
        return File(self._number(), stat.S_IFREG | mode, *self._times())

    def new_folder(self) -> Folder:
        """A folder without a name. Raises OSError."""
        return Folder(self._number(), stat.S_IFDIR | 0o755, *self._times())

    def _times(self) -> tuple[int, int]:
        now = self.stamp()
        return now, now

    def _number(self) -> int:
        if self.inodes >= (self.count or FILES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.inodes += 1
        if self._free_numbers:
            return self._free_numbers.pop()
        self._next_number += 1
        return self._next_number - 1

    def release(self, inode: Inode) -> None:
        """Forget an inode that has no name and is not open."""
        if inode.links == 0 and inode.opened == 0:
            self.inodes -= 1
            self._free_numbers.append(inode.number)
            if isinstance(inode, File):
                self.used -= len(inode.allocated)

    def store(self, file: File, offset: int, data: memoryview, path: str) -> int:
        """Write; gives how many bytes. Raises Dead, OSError."""
        was_alive = not self.dead
        try:
            if self.step("write", path, len(data)) and len(data) > 1:
                data = data[: len(data) // 2]
        except Dead:
            if was_alive:  # a kill can come between two pages of one call
                pages = self.rng.randrange(len(data) // BLOCK + 1)
                self._put(file, offset, data[: pages * BLOCK])
            raise
        fits = self._fits(file, offset, data)
        if not fits and data:
            raise failure(errno.ENOSPC, path)
        self._put(file, offset, data[:fits])
        return fits

    def _put(self, file: File, offset: int, data: memoryview) -> None:
        before = len(file.allocated)
        if data:
            file.put(offset, data)
            file.written = self.stamp()
        self.used += len(file.allocated) - before

    def _fits(self, file: File, offset: int, data: memoryview) -> int:
        """How many bytes there is room for."""
        if self.size is None:
            return len(data)
        room = self.size // BLOCK - self.used
        for block in blocks(offset, offset + len(data)):
            if block not in file.allocated:
                room -= 1
                if room < 0:
                    return max(0, block * BLOCK - offset)
        return len(data)

    def resize(self, file: File, size: int) -> None:
        """Cut a file, or add zeros."""
        before = len(file.allocated)
        file.resize(size)
        file.written = self.stamp()
        self.used += len(file.allocated) - before

    def look_up(self, path: str) -> Inode:
        """What is at a path. Raises OSError."""
        inode: Inode = self.top
        for part in path[len(self.root) :].split("/"):
            if part not in ("", "."):
                inode = named(inode, path).names.get(part) or _absent(path)
        return inode

    def parent(self, path: str) -> tuple[Folder, str]:
        """The folder of a path, and the last name of it. Raises OSError."""
        folder, _, name = path.rstrip("/").rpartition("/")
        return named(self.look_up(folder), path), name

    def facts(self, inode: Inode) -> os.stat_result:
        """As `os.stat` tells them."""
        size = len(inode.data) if isinstance(inode, File) else BLOCK
        taken = len(inode.allocated) * BLOCK // SECTOR if isinstance(inode, File) else 0
        links = 2 if is_folder(inode) else inode.links
        read, written = inode.read, inode.written
        whole = (inode.mode, inode.number, 77, links, os.geteuid(), os.getegid(), size)
        seconds = (read // 10**9, written // 10**9, written // 10**9)
        floats = (read / 1e9, written / 1e9, written / 1e9, read, written, written)
        return os.stat_result((*whole, *seconds, *floats, BLOCK, taken, 0))


def failure(number: int, path: str) -> OSError:
    """An error of a call on a path."""
    return OSError(number, os.strerror(number), path)


def named(inode: Inode, path: str) -> Folder:
    """A folder, which it must be. Raises OSError."""
    if not isinstance(inode, Folder):
        raise failure(errno.ENOTDIR, path)
    return inode


def _absent(path: str) -> Inode:
    raise failure(errno.ENOENT, path)


def _walk(folder: Folder, path: str) -> Iterator[tuple[str, Inode]]:
    for name, inode in sorted(folder.names.items()):
        yield f"{path}/{name}", inode
        if isinstance(inode, Folder):
            yield from _walk(inode, f"{path}/{name}")


def _choose(folder: Folder, rng: random.Random, chosen: dict[Folder, dict[str, Inode]]) -> None:
    """The names that each folder is left with."""
    chosen[folder] = names = folder.torn(rng)
    for name in sorted(names):
        inode = names[name]
        if isinstance(inode, Folder) and inode not in chosen:
            _choose(inode, rng, chosen)


def _rescue(chosen: dict[Folder, dict[str, Inode]], rng: random.Random) -> None:
    """What has a name, had one that was safe, and would have none now, keeps that."""
    had = {inode for names in chosen.values() for inode in names.values()}
    for folder in list(chosen):
        for name, inode in sorted(folder.moments[0].items()):
            if inode.links and inode not in had and name not in chosen[folder]:
                chosen[folder][name] = inode
                had.add(inode)
                if isinstance(inode, Folder):
                    _choose(inode, rng, chosen)


def _left(folder: Folder, chosen: dict[Folder, dict[str, Inode]], rng: random.Random) -> Folder:
    """A folder as it is left, with all that is below."""
    left = Folder(0, folder.mode, folder.read, folder.written)
    for name, inode in sorted(chosen[folder].items()):
        if isinstance(inode, Folder):
            left.names[name] = _left(inode, chosen, rng)
        elif isinstance(inode, File):
            left.names[name] = _torn(inode, rng)
    left.sync()
    return left


def _torn(file: File, rng: random.Random) -> File:
    data = file.torn(rng)
    there = set(blocks(0, len(data)))
    return File(
        0, file.mode, file.read, file.written, data=data, safe=bytearray(data),
        allocated=file.allocated & there, cold=there,
    )  # fmt: skip
