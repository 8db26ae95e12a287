"""One process at a time in a cache directory; who comes second learns how to reach the first."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

NAME = ".lock"
LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a directory: its process, and the `host:port` of its admin listener (None: it has none)."""

    pid: int
    admin: str | None


class DirectoryInUse(OSError):
    """Another process works on the directory.

    Attributes:
        holder: who it is; None while it has not said.
    """

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        who = f"process {holder.pid}" if holder is not None else "another process"
        super().__init__(f"{directory} is in use by {who}")
        self.holder = holder


class DirectoryLock:
    """Holds a directory from construction to `close`, or to the end of the process, however it ends.

    Raises:
        DirectoryInUse: another process holds it.
        OSError: the directory cannot be written to.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._leave_to_the_owner(directory)
            self.tell(None)
        except BlockingIOError:
            os.close(self._fd)
            raise DirectoryInUse(directory, _holder(path)) from None
        except BaseException:
            os.close(self._fd)
            raise

    def _leave_to_the_owner(self, directory: Path) -> None:
        """What root makes here must not stand in the way of the mirror's own user."""
        if os.geteuid() == 0:
            owner = directory.stat()
            os.fchown(self._fd, owner.st_uid, owner.st_gid)

    def tell(self, admin: str | None) -> None:
        """Write down who holds it, for whoever comes second."""
        text = json.dumps({"pid": os.getpid(), "admin": admin}).encode() + b"\n"
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def close(self) -> None:
        """Let go."""
        os.close(self._fd)


def in_use(directory: Path) -> DirectoryInUse | None:
    """Who holds a directory now, without taking it; None if nobody does. Raises OSError."""
    path = directory / NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return DirectoryInUse(directory, _holder(path))
    finally:
        os.close(fd)
    return None


def _holder(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        with path.open("rb") as file:
            told = json.loads(file.read(LIMIT))
        return Holder(int(told["pid"]), told["admin"])
    return None
