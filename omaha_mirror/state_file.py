"""Files of the state: read within bounds, replaced as a whole, put aside where they are damaged.

A damaged one never stops a start. What was in it is kept beside it, said, and made anew. All of this waits for the disk.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

T = TypeVar("T")
LOG = structlog.get_logger(__name__)
UNSUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
"""What fsync says, mostly of folders, where the file system has no such thing: some of FUSE, some of the network."""
_said: set[int] = set()
"""The file systems, by device, of which the log says already that they do not sync."""


class Damaged(Exception):
    """A file cannot be used; the message names it and says why."""


def read_file(path: Path, limit: int) -> bytes:
    """A whole file. A pipe or a device in its place is not waited for.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        Damaged: it is no file, or has more than `limit` bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    content = bytearray()
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Damaged(f"{path} is no file")
        while len(content) <= limit and (data := os.read(fd, limit + 1 - len(content))):
            content += data
    finally:
        os.close(fd)
    if len(content) > limit:
        raise Damaged(f"{path} has more than {limit} bytes")
    return bytes(content)


def read_state(path: Path, limit: int, parse: Callable[[bytes], T]) -> T | None:
    """What a file holds; None where there is none. Raises Damaged for everything else that is wrong with it.

    Args:
        path: of the file.
        limit: bytes that it may have.
        parse: makes of its bytes what they say; whatever it raises counts as damage.
    """
    try:
        return parse(read_file(path, limit))
    except FileNotFoundError:
        return None
    except Damaged:
        raise
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # bytes that nobody wrote so can make a parser raise anything
        raise Damaged(f"{path} cannot be used: {_reason(error)}") from error


def note(path: Path, limit: int, parse: Callable[[bytes], T]) -> T | None:
    """What a file holds that matters little: None where there is none, and where it is damaged."""
    try:
        return read_state(path, limit, parse)
    except Damaged:
        return None


def restore(path: Path, limit: int, parse: Callable[[bytes], T], loss: str) -> T | None:
    """The same for what the mirror can do without: a damaged file is put aside, and said with `loss`, what that costs."""
    try:
        return read_state(path, limit, parse)
    except Damaged as error:
        LOG.error("a file of the state is damaged", why=str(error), then=put_aside(path), loss=loss)
        return None


def restore_folder(path: Path, loss: str) -> None:
    """The same for a folder of state: what is none, or cannot be looked into, is put aside."""
    try:
        with os.scandir(path):
            pass
    except FileNotFoundError:
        pass
    except OSError as error:
        LOG.error(
            "a folder of the state cannot be read",
            path=str(path),
            why=error.strerror,
            then=put_aside(path),
            loss=loss,
        )


def put_aside(path: Path) -> str:
    """Keep what is at a path as `NAME.damaged` beside it, in place of the one before; gives a clause for people."""
    try:
        return f"it is kept as {set_aside(path)}"
    except OSError as error:
        return f"it cannot be put aside: {error.strerror}"


def set_aside(path: Path) -> Path:
    """The same; gives the new name. Raises OSError."""
    aside = path.with_suffix(".damaged")
    if path.is_dir() or aside.is_dir():  # a folder neither replaces a file nor is replaced
        aside = path.with_suffix(f".{time.time_ns()}.damaged")
    path.rename(aside)
    return aside


def replace_file(path: Path, content: bytes) -> None:
    """Write a file for the mirror's user alone; what is there stays whole whatever happens. Raises OSError."""
    draft = path.with_name(path.name + ".tmp")
    if draft.is_dir():
        set_aside(draft)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        sync(file.fileno())
    if path.is_dir():
        LOG.error("a folder is where a file should be", path=str(path), then=put_aside(path))
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> bool:
    """Make the names in a folder survive a power cut; see `sync`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sync(fd)
    finally:
        os.close(fd)


def sync(fd: int, *, data_only: bool = False) -> bool:
    """Make what was written survive a power cut; where the file system has no such thing, that is said once.

    Args:
        fd: of a file or a folder.
        data_only: leave out times and the like.

    Returns:
        Whether the file system can.

    Raises:
        OSError: the disk failed.
    """
    try:
        (os.fdatasync if data_only else os.fsync)(fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        device = os.fstat(fd).st_dev
        if device not in _said:
            _said.add(device)
            LOG.warning(NOT_SYNCED, path=str(Path(f"/proc/self/fd/{fd}").readlink()))
        return False
    return True


NOT_SYNCED = (
    "its file system does not sync it: all goes on, but a power cut may cost what was written last"
)


def _reason(error: Exception) -> str:
    """What a parser says, in one line."""
    told = str(error).partition("\n")[0]
    return told if told and isinstance(error, ValueError) else "it does not hold what it should"
