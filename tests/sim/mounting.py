"""Puts disks in memory under a process: `mounted` patches the calls on files for as long as it lasts."""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import aiofiles.threadpool

from omaha_mirror.cache import store
from tests.sim import dispatch, fd_calls, name_calls
from tests.sim.disk import Disk
from tests.sim.dispatch import FIRST, disk_of

FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
         "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL}  # fmt: skip
"""Of the modes of `open`."""
READS = "open close dup read pread preadv lseek isatty set_inheritable posix_fadvise sendfile"
WRITES = "write pwrite pwritev ftruncate fsync fdatasync"
NAMES = "mkdir rmdir unlink rename stat lstat fstat access readlink utime chmod chown statvfs scandir listdir truncate"
SECOND = {
    "remove": "unlink", "replace": "rename", "fchmod": "chmod", "fchown": "chown",
    "fstatvfs": "statvfs",
}  # fmt: skip
"""Other names of the same."""


class RawFile(io.RawIOBase):
    """See `io.FileIO`."""

    name: Any

    def __init__(self, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__()
        flags = next(FLAGS[kind] for kind in mode if kind in FLAGS)
        if "+" in mode:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        self.name = file
        self.mode = mode
        self._fd = -1
        self._closefd = closefd
        if isinstance(file, int):
            self._fd = file
        elif opener is not None:
            self._fd = opener(file, flags | os.O_CLOEXEC)
        else:
            self._fd = fd_calls.open(file, flags | os.O_CLOEXEC, 0o666)
        self._flags = flags

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return self._flags & os.O_ACCMODE != os.O_WRONLY

    def writable(self) -> bool:
        return self._flags & os.O_ACCMODE != os.O_RDONLY

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = fd_calls.read(self._fd, len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        parts = []
        while data := fd_calls.read(self._fd, 1 << 20):
            parts.append(data)
        return b"".join(parts)

    def write(self, data: Any) -> int:
        return int(fd_calls.write(self._fd, data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(fd_calls.lseek(self._fd, offset, whence))

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        fd_calls.ftruncate(self._fd, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._closefd and self._fd in dispatch.fds:
                fd_calls.close(self._fd)


def _opens(real: Callable[..., Any]) -> Callable[..., Any]:
    """See `io.open`."""

    def open_file(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        ours = file >= FIRST if isinstance(file, int) else disk_of(file) is not None
        if not ours:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = RawFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader
        binary = (io.BufferedWriter if not raw.readable() else kind)(raw)
        if "b" in mode:
            return binary
        return io.TextIOWrapper(binary, encoding, errors, newline)

    return open_file


dispatch.real.update({name: getattr(os, name) for name in f"{READS} {WRITES} {NAMES}".split()})
dispatch.real["flock"] = fcntl.flock
aiofiles.threadpool.wrap.register(RawFile)(aiofiles.threadpool.wrap.dispatch(io.FileIO))


@contextmanager
def mounted(*disks: Disk) -> Iterator[None]:
    """Have the process find disks at their places; the next life of one takes its place (`swap`)."""
    names = dict.fromkeys(f"{READS} {WRITES}".split(), fd_calls)
    names |= dict.fromkeys(NAMES.split(), name_calls)
    patches = {name: getattr(names[name], name) for name in names}
    patches |= {name: patches[same] for name, same in SECOND.items()}
    with ExitStack() as stack:
        stack.callback(_unmount, list(dispatch.disks))
        dispatch.disks[:] = disks
        for disk in disks:
            disk.replace = swap
        for name, patch in patches.items():
            stack.enter_context(mock.patch.object(os, name, patch))
        opens = _opens(io.open)
        for place in (io, builtins):
            stack.enter_context(mock.patch.object(place, "open", opens))
        stack.enter_context(mock.patch.object(aiofiles.threadpool, "sync_open", opens))
        stack.enter_context(mock.patch.object(fcntl, "flock", fd_calls.flock))
        stack.enter_context(mock.patch.object(store, "_statx", None))
        stack.enter_context(mock.patch.object(shutil, "_use_fd_functions", False))
        yield


def _unmount(before: list[Disk]) -> None:
    dispatch.disks[:] = before
    for fd in [fd for fd, opened in dispatch.fds.items() if opened.disk not in before]:
        del dispatch.fds[fd]


def swap(disk: Disk, after: Disk) -> None:
    """Mount the disk of the next life in place of the one before."""
    dispatch.disks[dispatch.disks.index(disk)] = after
    after.replace = swap


def begin() -> None:
    """A thread of the mirror's goes to work."""
    for disk in dispatch.disks:
        disk.begin()


def end() -> float:
    """It is done: how many seconds its calls take in all."""
    return sum(disk.end() for disk in dispatch.disks)
