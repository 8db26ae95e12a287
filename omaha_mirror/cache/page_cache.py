"""The page cache: sendfile of a page that is not in memory waits for the disk, and blocks the event loop.

A window is tested by sampling (one byte in each readahead, read with RWF_NOWAIT, which fails rather than wait for the disk), and
what was in memory a moment ago still is, for all readers. Where it is not in memory, a worker reads it just before it is sent.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import BinaryIO
from weakref import WeakKeyDictionary

from omaha_mirror.aio.workers import BLOBS, Hangs

STRIDE = 128 * 1024
"""Bytes that Linux reads together where nothing else is said: VM_READAHEAD_PAGES (linux/mm.h)."""
CHUNK = 1024 * 1024
RECENT = 1.0
"""Seconds in which what was in memory is taken to be there still."""
READ = 1024 * 1024


def resident(fd: int, offset: int, count: int) -> bool:
    """Whether samples of [offset, offset + count) of a file are in the page cache. Never waits for the disk."""
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


def is_in_memory(file: BinaryIO, offset: int, count: int) -> bool:
    """Whether [offset, offset + count) of an open file is `resident`, or was a moment ago."""
    seen = _seen.setdefault(file, {})
    now, end, fd = time.monotonic(), offset + count, file.fileno()
    for chunk in range(offset - offset % CHUNK, end, CHUNK):
        if chunk in seen and now - seen[chunk] < RECENT:
            continue
        start, stop = max(chunk, offset), min(chunk + CHUNK, end)
        if not resident(fd, start, stop - start):
            return False
        if stop - start == CHUNK:
            seen[chunk] = now
    return True


_seen: WeakKeyDictionary[BinaryIO, dict[int, float]] = WeakKeyDictionary()
"""When each chunk was found in memory last."""
AT_ONCE = 2
"""Threads that may wait for bytes of one file."""


class _Queue:
    """The threads that wait for bytes of one file, and whether its disk hangs."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE)
        self.hangs: Hangs | None = None


_queues: WeakKeyDictionary[BinaryIO, _Queue] = WeakKeyDictionary()


async def loaded(file: BinaryIO, offset: int, count: int, *, on_disk: bool) -> None:
    """Return when [offset, offset + count) of an open file is in memory.

    Args:
        file: stays open until then.
        offset: of the first byte.
        count: bytes.
        on_disk: False for a file in memory, which never hangs.

    Raises:
        Hangs: the disk does not answer.
        OSError: the disk failed.
    """
    if is_in_memory(file, offset, count):
        return
    if not on_disk:
        await BLOBS.call(load, file.fileno(), offset, count)
        return
    queue = _queues.setdefault(file, _Queue())
    async with queue.places:
        if queue.hangs is not None and queue.hangs.lasts:
            raise queue.hangs
        # Its own descriptor: the file may be closed while a thread still waits for it.
        fd = os.dup(file.fileno())
        try:
            await BLOBS.patiently(None, _load, fd, offset, count)
        except Hangs as error:
            if error.work is None or error.work.cancelled():
                os.close(fd)
            queue.hangs = error
            raise


def _load(fd: int, offset: int, count: int) -> None:
    try:
        load(fd, offset, count)
    finally:
        os.close(fd)
