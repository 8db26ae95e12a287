"""What this machine knows of an open file, without asking the file system.

fstat(2) on a network file system or FUSE asks the other side, and waits for it; statx(2) can be told not to.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000
WANTED = 0x0344
"""STATX_NLINK, STATX_MTIME, STATX_INO and STATX_SIZE."""
ROOM = 256
FIELDS = struct.Struct("<I12xI12xQQ64xqI12xII")
"""Of struct statx (linux/stat.h): mask, links, inode, size, mtime, then the device, whose place is the same everywhere."""


try:
    _statx = ctypes.CDLL(None, use_errno=True).statx
except (AttributeError, OSError):  # a libc without it
    _statx = None  # type: ignore[assignment]


class Known(NamedTuple):
    """Device, inode, size in bytes, time of the last change in nanoseconds, and how many names it has."""

    device: int
    inode: int
    size: int
    written: int
    names: int


def known(fd: int) -> Known:
    """What is known of an open file. Raises OSError."""
    if _statx is not None:
        found = ctypes.create_string_buffer(ROOM)
        if _statx(fd, b"", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, WANTED, found) == 0:
            mask, names, inode, size, seconds, nanoseconds, *device = FIELDS.unpack_from(found)
            if mask & WANTED == WANTED:
                written = seconds * 10**9 + nanoseconds
                return Known(os.makedev(*device), inode, size, written, names)
    status = os.fstat(fd)
    return Known(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_nlink)
