"""The calls of `os` on paths, on a disk in memory; see `dispatch`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

from tests.sim.disk import FILES, ROOM, Disk, Opened, failure, named
from tests.sim.dispatch import Thing, Where, call, disk_of, fds, inode_of, place, real
from tests.sim.inodes import BLOCK, File, Folder, Inode, is_folder


def add_name(folder: Folder, name: str, inode: Inode) -> None:
    folder.names[name] = inode
    inode.links += 1
    folder.changed()


def _unname(disk: Disk, folder: Folder, name: str) -> None:
    inode = folder.names.pop(name)
    inode.links -= 1
    folder.changed()
    disk.release(inode)


@call
def mkdir(where: Where, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    disk, path = where
    if path.rstrip("/") == disk.root:
        raise failure(errno.EEXIST, path)
    folder, name = disk.parent(path)
    if name in folder.names:
        raise failure(errno.EEXIST, path)
    disk.step("mkdir", path)
    inode = disk.new_folder()
    inode.mode = inode.mode & ~0o7777 | mode & 0o7777 & ~0o022
    add_name(folder, name, inode)


@call
def rmdir(where: Where, *, dir_fd: int | None = None) -> None:
    disk, path = where
    folder, name = disk.parent(path)
    inode = named(disk.look_up(path), path)
    if inode.names:
        raise failure(errno.ENOTEMPTY, path)
    disk.step("unlink", path)
    _unname(disk, folder, name)


@call
def unlink(where: Where, *, dir_fd: int | None = None) -> None:
    disk, path = where
    folder, name = disk.parent(path)
    if is_folder(disk.look_up(path)):
        raise failure(errno.EISDIR, path)
    disk.step("unlink", path)
    _unname(disk, folder, name)


@call
def rename(where: Where, target: Any, **_: Any) -> None:
    disk, path = where
    if disk_of(target) is not disk:
        raise failure(errno.EXDEV, path)
    other = os.fsdecode(target)
    (folder, name), (into, new) = disk.parent(path), disk.parent(other)
    inode, there = disk.look_up(path), into.names.get(new)
    if is_folder(inode) and f"{other}/".startswith(f"{path}/") and there is not inode:
        raise failure(errno.EINVAL, path)
    if path.startswith(f"{other}/"):
        raise failure(errno.ENOTEMPTY, path)
    if there is not None and there is not inode:
        if is_folder(there) != is_folder(inode):
            raise failure(errno.EISDIR if is_folder(there) else errno.ENOTDIR, path)
        if isinstance(there, Folder) and there.names:
            raise failure(errno.ENOTEMPTY, path)
    disk.step("rename", path)
    if there is inode:
        return
    if there is not None:
        there.links -= 1
    del folder.names[name]
    into.names[new] = inode
    for changed in dict.fromkeys((into, folder)):
        changed.changed()
    if there is not None:
        disk.release(there)


@call
def stat(
    thing: Thing, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    inode = inode_of(thing)
    return place(thing)[0].facts(inode)


@call
def lstat(where: Where, *, dir_fd: int | None = None) -> os.stat_result:
    return where[0].facts(inode_of(where))


@call
def fstat(opened: Opened) -> os.stat_result:
    return opened.disk.facts(opened.inode)


@call
def access(where: Where, mode: int, **_: Any) -> bool:
    try:
        inode_of(where)
    except OSError:
        return False
    return True


def readlink(path: Any, *, dir_fd: int | None = None) -> Any:
    """There are no links, but those of /proc to what is open."""
    if (disk := disk_of(path)) is not None:
        inode_of((disk, os.fsdecode(path)))
        raise failure(errno.EINVAL, os.fsdecode(path))
    _, ours, fd = str(path).partition("/proc/self/fd/")
    if ours and int(fd) in fds:
        return fds[int(fd)].path
    return real["readlink"](path, dir_fd=dir_fd)


@call
def utime(
    thing: Thing,
    times: tuple[float, float] | None = None,
    *,
    ns: tuple[int, int] | None = None,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    inode = inode_of(thing)
    disk, path = place(thing)
    disk.step("utime", path)
    if ns is None:
        ns = (int(times[0] * 1e9), int(times[1] * 1e9)) if times else (disk.stamp(), disk.stamp())
    inode.read, inode.written = ns


@call
def chmod(thing: Thing, mode: int, **_: Any) -> None:
    inode = inode_of(thing)
    inode.mode = inode.mode & ~0o7777 | mode


@call
def chown(thing: Thing, uid: int, gid: int, **_: Any) -> None:
    inode_of(thing)


@call
def statvfs(thing: Thing) -> os.statvfs_result:
    disk, path = place(thing)
    disk.step("statvfs", path)
    room = (ROOM if disk.size is None else disk.size) // BLOCK
    count = FILES if disk.count is None else disk.count
    free, files = max(0, room - disk.used), max(0, count - disk.inodes)
    return os.statvfs_result((BLOCK, BLOCK, room, free, free, count, files, files, 0, 255))


class Entry:
    """See `os.DirEntry`."""

    def __init__(self, disk: Disk, path: str, name: str, inode: Inode) -> None:
        self.name = name
        self.path = f"{path.rstrip('/')}/{name}"
        self._disk = disk
        self._inode = inode

    def __fspath__(self) -> str:
        return self.path

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return is_folder(self._inode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return not is_folder(self._inode)

    def is_symlink(self) -> bool:
        return False

    def inode(self) -> int:
        return self._inode.number

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._disk.facts(self._inode)


class Entries:
    """See `os.scandir`."""

    def __init__(self, entries: list[Entry]) -> None:
        self._left = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self._left

    def __next__(self) -> Entry:
        return next(self._left)

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._left = iter(())


def _entries(thing: Thing) -> list[Entry]:
    disk, path = place(thing)
    disk.step("list", path)
    folder = named(thing.inode if isinstance(thing, Opened) else disk.look_up(path), path)
    names = sorted(folder.names)
    disk.rng.shuffle(names)
    return [Entry(disk, path, name, folder.names[name]) for name in names]


@call
def scandir(thing: Thing) -> Entries:
    return Entries(_entries(thing))


@call
def listdir(thing: Thing) -> list[str]:
    return [entry.name for entry in _entries(thing)]


@call
def truncate(thing: Thing, size: int) -> None:
    inode = inode_of(thing)
    assert isinstance(thing, tuple)
    assert isinstance(inode, File)
    thing[0].step("truncate", thing[1])
    thing[0].resize(inode, size)
