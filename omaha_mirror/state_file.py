"""State files: read within a size limit, replaced atomically, renamed when they are damaged.

A damaged file never stops a start: it is renamed and logged, and a new one is written. All functions wait for the disk.
"""

from __future__ import annotations

import contextlib
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
"""Errors of fsync, mostly on folders, on file systems without it: some of FUSE, some of the network."""
_logged: set[int] = set()
"""The devices whose file systems were logged as not syncing."""


class Damaged(Exception):
    """A file cannot be used; the message has its path and the reason."""


def read_file(path: Path, limit: int) -> bytes:
    """The content of a file; a pipe or a device at its path is refused and never waited for.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        Damaged: it is no regular file, or has more than `limit` bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    content = bytearray()
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Damaged(f"{path} is no regular file")
        while len(content) <= limit and (data := os.read(fd, limit + 1 - len(content))):
            content += data
    finally:
        os.close(fd)
    if len(content) > limit:
        raise Damaged(f"{path} has more than {limit} bytes")
    return bytes(content)


def read_state(path: Path, limit: int, parse: Callable[[bytes], T]) -> T | None:
    """The parsed content of a file; None if it does not exist. Raises Damaged if it cannot be read or parsed.

    Args:
        path: of the file.
        limit: its greatest size in bytes.
        parse: parses its bytes; any exception counts as damage.
    """
    try:
        return parse(read_file(path, limit))
    except FileNotFoundError:
        return None
    except Damaged:
        raise
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise Damaged(f"{path} cannot be used: {_reason(error)}") from error


def note(path: Path, limit: int, parse: Callable[[bytes], T]) -> T | None:
    """The same for a file of little importance: None also if it is damaged."""
    try:
        return read_state(path, limit, parse)
    except Damaged:
        return None


def restore(path: Path, limit: int, parse: Callable[[bytes], T], loss: str) -> T | None:
    """The same for a file that can be made anew: a damaged one is renamed, and logged with `loss`, what is lost."""
    try:
        return read_state(path, limit, parse)
    except Damaged as error:
        LOG.error("a file of the state is damaged", why=str(error), then=put_aside(path), loss=loss)
        return None


def restore_folder(path: Path, loss: str) -> None:
    """Rename whatever is at the path of a folder and cannot be listed, and log it with `loss`, what is lost."""
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
    """Call `set_aside`; gives the result as a clause for people."""
    try:
        return f"it is kept as {set_aside(path)}"
    except OSError as error:
        return f"it cannot be put aside: {error.strerror}"


def set_aside(path: Path) -> Path:
    """Rename what is at a path to `NAME.damaged`, in place of an older one; gives the new path. Raises OSError."""
    aside = path.with_suffix(".damaged")
    if path.is_dir() or aside.is_dir():  # a folder neither replaces a file nor is replaced
        aside = path.with_suffix(f".{time.time_ns()}.damaged")
    path.rename(aside)
    return aside


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically and synced, readable for the mirror's user alone. Raises OSError."""
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


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, where they are missing: a power cut leaves them. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode, exist_ok=True)
    with contextlib.suppress(
        OSError
    ):  # whoever may write to a folder need not be allowed to read it
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> bool:
    """Sync the names in a folder; see `sync`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sync(fd)
    finally:
        os.close(fd)


def sync(fd: int, *, data_only: bool = False) -> bool:
    """Sync a descriptor, so that a power cut loses nothing; a file system without sync is logged once.

    Args:
        fd: of a file or a folder.
        data_only: without times and other metadata.

    Returns:
        Whether the file system can sync.

    Raises:
        OSError: the disk failed.
    """
    try:
        (os.fdatasync if data_only else os.fsync)(fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        device = os.fstat(fd).st_dev
        if device not in _logged:
            _logged.add(device)
            LOG.warning(NOT_SYNCED, path=str(Path(f"/proc/self/fd/{fd}").readlink()))
        return False
    return True


NOT_SYNCED = (
    "the file system cannot sync: the mirror works, but a power cut may lose the last writes"
)


def _reason(error: Exception) -> str:
    """The first line of a parser's message."""
    line = str(error).partition("\n")[0]
    return line if line and isinstance(error, ValueError) else "its content is not as expected"
