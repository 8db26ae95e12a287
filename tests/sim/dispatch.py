"""Which calls on files are made on a disk in memory: those whose path or descriptor is one of theirs.

Descriptors of such files are numbers that no kernel gives, so a call that is not here fails with EBADF instead of working
on something else. The calls behave as Linux does; `test_disk` holds them against a real file system.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any

from tests.sim.disk import Disk, Opened
from tests.sim.inodes import Inode

FIRST = 1 << 20
"""The first descriptor."""
real: dict[str, Callable[..., Any]] = {}
"""The calls as they were, by name."""
disks: list[Disk] = []
"""Those that are mounted."""
fds: dict[int, Opened] = {}
"""What is open. No number is given twice, so what a run forgot to close closes nothing of the next."""
lock = threading.RLock()
_next = [FIRST]
Where = tuple[Disk, str]
Thing = Opened | Where
"""An open file, or a path."""


def call(function: Callable[..., Any]) -> Callable[..., Any]:
    """One call at a time; what is no file of ours goes to the real one of the same name."""
    name = function.__name__

    def made(thing: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(thing, int):
            if thing >= FIRST:
                with lock:
                    return function(opened_as(thing), *args, **kwargs)
        elif (disk := disk_of(thing)) is not None:
            with lock:
                return function((disk, os.fsdecode(thing)), *args, **kwargs)
        return real[name](thing, *args, **kwargs)

    return made


def disk_of(path: Any) -> Disk | None:
    """Where a path leads; None for the real world."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        return None
    for disk in disks:
        if text.startswith(disk.root) and text[len(disk.root) :][:1] in ("", "/"):
            return disk
    return None


def opened_as(fd: int) -> Opened:
    """An open file. Raises OSError."""
    if (opened := fds.get(fd)) is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return opened


def new_fd(opened: Opened) -> int:
    """One more descriptor of an open file."""
    fd, _next[0] = _next[0], _next[0] + 1
    fds[fd] = opened.disk.fds[fd] = opened
    opened.inode.opened += 1
    return fd


def place(thing: Thing) -> Where:
    """The disk of it, and its path."""
    return (thing.disk, thing.path) if isinstance(thing, Opened) else thing


def inode_of(thing: Thing) -> Inode:
    """Which it is. Raises OSError."""
    if isinstance(thing, Opened):
        return thing.inode
    disk, path = thing
    disk.step("stat", path)
    return disk.look_up(path)
