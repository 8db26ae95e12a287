"""Keeps cold disk pages away from the event loop: sendfile on a page that is not in memory blocks all clients.

A window is tested by sampling (one byte every 64 KiB, read with RWF_NOWAIT, which fails rather than wait for the
disk) and, when it is cold, read by a worker just before it is sent.
"""

from __future__ import annotations

import os

STRIDE = 64 * 1024
READ = 1024 * 1024


def resident(fd: int, offset: int, count: int) -> bool:
    """Whether [offset, offset + count) of a file seems to be in the page cache. Never waits for the disk."""
    probe = [bytearray(1)]
    try:
        for at in (*range(offset, offset + count, STRIDE), offset + count - 1):
            os.preadv(fd, probe, at, os.RWF_NOWAIT)
    except OSError:
        return False
    return True


def load(fd: int, offset: int, count: int) -> None:
    """Read [offset, offset + count) into the page cache; blocks. Raises OSError."""
    os.posix_fadvise(fd, offset, count, os.POSIX_FADV_WILLNEED)
    buffer = [bytearray(min(READ, count))]
    for at in range(offset, offset + count, READ):
        os.preadv(fd, buffer, at)
