"""The calls of `os` and `fcntl` on open files, on a disk in memory; see `dispatch`."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence

from tests.sim.disk import Disk, Opened, failure, named
from tests.sim.dispatch import FIRST, Where, call, fds, lock, new_fd, opened_as, real
from tests.sim.inodes import BLOCK, File, Folder, Inode, blocks, is_folder
from tests.sim.name_calls import add_name

Buffer = bytes | bytearray | memoryview


def _file(opened: Opened, *, write: bool = False) -> File:
    mode = opened.flags & os.O_ACCMODE
    if mode == (os.O_RDONLY if write else os.O_WRONLY):
        raise failure(errno.EBADF, opened.path)
    if not isinstance(opened.inode, File):
        raise failure(errno.EISDIR, opened.path)
    return opened.inode


@call
def open(where: Where, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: A001
    disk, path = where
    disk.step("open", path)
    inode = _to_open(disk, path, flags, mode)
    if is_folder(inode) and flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
        raise failure(errno.EISDIR, path)
    if flags & os.O_DIRECTORY and flags & os.O_TMPFILE != os.O_TMPFILE:
        named(inode, path)
    if flags & os.O_TRUNC and isinstance(inode, File) and inode.data:
        disk.step("truncate", path)
        disk.resize(inode, 0)
    return new_fd(Opened(disk, inode, path, flags))


def _to_open(disk: Disk, path: str, flags: int, mode: int) -> Inode:
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        named(disk.look_up(path), path)
        return disk.new_file(mode & 0o7777)
    if not flags & os.O_CREAT:
        return disk.look_up(path)
    folder, name = disk.parent(path)
    inode = folder.names.get(name)
    if inode is None:
        disk.step("create", path, waits=False)
        inode = disk.new_file(mode & 0o7777 & ~0o022)
        add_name(folder, name, inode)
    elif flags & os.O_EXCL:
        raise failure(errno.EEXIST, path)
    elif is_folder(inode):
        raise failure(errno.EISDIR, path)
    return inode


def close(fd: int) -> None:
    if fd < FIRST:
        real["close"](fd)
        return
    with lock:
        opened = opened_as(fd)
        del fds[fd]
        disk = opened.disk
        disk.fds.pop(fd, None)
        if disk.dead:
            return
        opened.inode.opened -= 1
        opened.names -= 1
        if not opened.names and opened in (held := disk.locks.get(opened.inode, [])):
            held.remove(opened)
        disk.release(opened.inode)


@call
def dup(opened: Opened) -> int:
    opened.names += 1
    return new_fd(opened)


@call
def set_inheritable(opened: Opened, inheritable: bool) -> None:
    del inheritable


@call
def isatty(opened: Opened) -> bool:
    return False


# Bytes


def _read(opened: Opened, count: int, offset: int) -> bytes:
    file, disk = _file(opened), opened.disk
    touched = blocks(offset, min(offset + count, len(file.data)))
    waits = not file.cold.isdisjoint(touched)
    short = disk.step("read", opened.path, count if waits else 0, waits=waits)
    file.cold.difference_update(touched)
    data = file.get(offset, count)
    return data[: len(data) // 2] if short and len(data) > 1 else data


@call
def pread(opened: Opened, count: int, offset: int) -> bytes:
    return _read(opened, count, offset)


@call
def read(opened: Opened, count: int) -> bytes:
    data = _read(opened, count, opened.at)
    opened.at += len(data)
    return data


@call
def preadv(
    opened: Opened, buffers: Sequence[bytearray | memoryview], offset: int, flags: int = 0
) -> int:
    file, count = _file(opened), sum(map(len, buffers))
    if flags & os.RWF_NOWAIT:
        first = blocks(offset, min(offset + count, len(file.data)))[:1]
        if not file.cold.isdisjoint(first):
            raise failure(errno.EAGAIN, opened.path)
        data = memoryview(file.get(offset, count))
    else:
        data = memoryview(_read(opened, count, offset))
    done = len(data)
    for buffer in buffers:
        part = data[: len(buffer)]
        buffer[: len(part)] = part
        data = data[len(buffer) :]
    return done


@call
def posix_fadvise(opened: Opened, offset: int, length: int, advice: int) -> None:
    file = _file(opened)
    stop = offset + length if length else len(file.data)
    if advice == os.POSIX_FADV_DONTNEED:
        clean = set(blocks(offset, min(stop, len(file.data)))) - file.dirty
        file.cold |= clean


def _write(opened: Opened, data: Buffer, offset: int) -> int:
    file = _file(opened, write=True)
    if opened.flags & os.O_APPEND:
        offset = len(file.data)
    return opened.disk.store(file, offset, memoryview(data).cast("B"), opened.path)


@call
def pwrite(opened: Opened, data: Buffer, offset: int) -> int:
    return _write(opened, data, offset)


@call
def pwritev(opened: Opened, buffers: Sequence[Buffer], offset: int, flags: int = 0) -> int:
    return _write(opened, b"".join(buffers), offset)


@call
def write(opened: Opened, data: Buffer) -> int:
    done = _write(opened, data, opened.at)
    opened.at = (
        len(_file(opened, write=True).data) if opened.flags & os.O_APPEND else opened.at + done
    )
    return done


@call
def lseek(opened: Opened, offset: int, whence: int) -> int:
    size = len(opened.inode.data) if isinstance(opened.inode, File) else 0
    at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: opened.at, os.SEEK_END: size}[whence]
    if at < 0:
        raise failure(errno.EINVAL, opened.path)
    opened.at = at
    return at


@call
def ftruncate(opened: Opened, size: int) -> None:
    if not isinstance(opened.inode, File) or opened.flags & os.O_ACCMODE == os.O_RDONLY:
        raise failure(errno.EINVAL, opened.path)
    opened.disk.step("truncate", opened.path)
    opened.disk.resize(opened.inode, size)


def _sync(opened: Opened) -> None:
    inode, disk = opened.inode, opened.disk
    count = len(inode.dirty) if isinstance(inode, File) else 1
    try:
        disk.step("sync", opened.path, count * BLOCK)
    except OSError:
        if isinstance(inode, File):
            inode.fail_sync()
        raise
    if isinstance(inode, File | Folder):
        inode.sync()


@call
def fsync(opened: Opened) -> None:
    _sync(opened)


@call
def fdatasync(opened: Opened) -> None:
    _sync(opened)


def sendfile(out: int, file: int, offset: int, count: int) -> int:
    """Reads and writes: a socket of the kernel's takes no file of ours."""
    if file < FIRST:
        return int(real["sendfile"](out, file, offset, count))
    data = pread(file, count, offset)
    return int(real["write"](out, data)) if data else 0


@call
def flock(opened: Opened, how: int) -> None:
    """Of `fcntl`."""
    held = opened.disk.locks.setdefault(opened.inode, [])
    if how & fcntl.LOCK_UN:
        if opened in held:
            held.remove(opened)
    elif [other for other in held if other is not opened]:
        raise failure(errno.EAGAIN, opened.path)
    elif opened not in held:
        held.append(opened)
