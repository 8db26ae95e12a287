"""One process at a time in a directory of the mirror; the second one learns how to reach the first."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from omaha_mirror.state_file import Damaged, read_file, set_aside

NAME = ".lock"
LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a directory: its id, and the `host:port` of its admin listener (None: it has none)."""

    pid: int
    admin: str | None


class DirectoryInUse(OSError):
    """Another process works on the directory.

    Attributes:
        holder: that process; None while it has not written its id.
    """

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        holding = f"process {holder.pid}" if holder is not None else "another process"
        super().__init__(f"{directory} is in use by {holding}")
        self.holder = holder


class NoLock(OSError):
    """A directory cannot be locked; the message names it and says what to do."""


class DirectoryLock:
    """Locks directories from construction to `close`, or to the end of the process.

    Args:
        directories: all or none of them are held; one of them may be another's second name.

    Raises:
        DirectoryInUse: another process holds one.
        NoLock: the file system of one knows no locks.
        OSError: one cannot be written to.
    """

    def __init__(self, *directories: Path) -> None:
        self._fds: list[int] = []
        try:
            for directory in {path.resolve(): path for path in directories}.values():
                self._hold(directory)
            self.tell(None)
        except BaseException:
            self.close()
            raise

    def _hold(self, directory: Path) -> None:
        path = directory / NAME
        if os.path.lexists(path) and not path.is_file():
            set_aside(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        self._fds.append(fd)
        if not _take(fd, path, fcntl.LOCK_EX):
            raise DirectoryInUse(directory, _holder(path))
        _leave_to_the_owner(fd, path)

    def tell(self, admin: str | None) -> None:
        """Write this process's id into them, for the next process; an error of the disk is ignored."""
        text = json.dumps({"pid": os.getpid(), "admin": admin}).encode() + b"\n"
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, text, 0)

    def holds(self, directory: Path) -> bool:
        """Whether a directory still is one that is held, and not another in its place; waits for the disk."""
        try:
            there = (directory / NAME).stat()
        except OSError:
            return False
        return any(os.path.samestat(there, os.fstat(fd)) for fd in self._fds)

    def close(self) -> None:
        """Unlock them."""
        while self._fds:
            os.close(self._fds.pop())


def _leave_to_the_owner(fd: int, path: Path) -> None:
    """Give a lock file that root made to the owner of its folder, whom it would lock out. Raises NoLock."""
    owner, mine = path.parent.stat(), os.fstat(fd)
    if os.geteuid() != 0 or (owner.st_uid, owner.st_gid) == (mine.st_uid, mine.st_gid):
        return
    try:
        os.fchown(fd, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise NoLock(
            f"cannot give {path} to the user with the id {owner.st_uid}, to whom its folder belongs:"
            f" {error.strerror}; run this as that user"
        ) from error


def in_use(directory: Path) -> DirectoryInUse | None:
    """The process that holds a directory now, without taking it; None if there is none. Raises OSError."""
    path = directory / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        free = _take(fd, path, fcntl.LOCK_SH)
    finally:
        os.close(fd)
    return None if free else DirectoryInUse(directory, _holder(path))


def _take(fd: int, path: Path, how: int) -> bool:
    """Lock a file; whether no other process has it. Raises NoLock."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLock(
            f"cannot lock {path}: {error.strerror}; two mirrors in one directory would spoil each other's"
            " files: mount it with locks (NFS: without nolock, with its lock service running), or"
            " name a directory on a local disk"
        ) from error
    return True


def _holder(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, Damaged, ValueError, LookupError, TypeError):
        fields = json.loads(read_file(path, LIMIT))
        return Holder(int(fields["pid"]), fields["admin"])
    return None
