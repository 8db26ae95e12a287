"""The metadata of a payload, for a client that goes on with an update (update_engine/update_attempter.cc:669).

It asks for bytes 0 to N-1, N being the size of the metadata, and then for the rest from where it was. Where the first of
both is cut after some bytes, it asks for as many from there on, so for more than it lacks: what comes beyond the
metadata, in another read than their last byte, aborts it (update_engine/multi_range_http_fetcher.cc:78). It closes the
connection when it has what it lacks.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios

from omaha_mirror.cache import Window
from omaha_mirror.semantics.ranges import ByteRange

TIME_TO_CLOSE = 5.0
"""Seconds that a client gets to close when it has all of the metadata."""
LOOK = 0.05
"""Seconds between two looks at what is still on its way to it."""
TOGETHER = 1024 * 1024
"""Bytes that are handed to the kernel in one piece at most."""
HEADERS = 64 * 1024
"""Bytes of room for the head of the answer, and for what the kernel counts besides."""


def may_be_metadata(part: ByteRange) -> bool:
    """Whether a client may want them with this range: the whole of them, or what it lacks of them."""
    return part.asked is not None and part.start < part.asked - part.start


def pause_at(part: ByteRange, metadata_size: int) -> int | None:
    """Where to wait for the client to close, when it asks once more for what it lacks of the metadata."""
    is_retry = part.asked == part.start + metadata_size and 0 < part.start < metadata_size
    return metadata_size if is_retry and metadata_size < part.stop else None


def in_one_piece(transport: asyncio.Transport | None, window: Window, lacking: int) -> bytes:
    """The bytes of a window, where they are all that is lacking and few, with room for them made in the kernel; else none.

    What the kernel has whole no end of this process can cut.
    """
    if transport is None or window.count < lacking or lacking > TOGETHER:
        return b""
    connection: socket.socket = transport.get_extra_info("socket")
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, lacking + HEADERS)
        data = os.pread(window.file.fileno(), lacking, window.offset)
    except OSError:  # whoever sends them in pieces finds out what it means
        return b""
    return data if len(data) == lacking else b""


async def wait_for_close(transport: asyncio.Transport | None) -> None:
    """Return when the client has had time to close since it got all that was sent; cancelled when it does close."""
    while transport is not None and not transport.is_closing() and _on_its_way(transport):  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(LOOK)
    await asyncio.sleep(TIME_TO_CLOSE)


def _on_its_way(transport: asyncio.Transport) -> bool:
    connection: socket.socket = transport.get_extra_info("socket")
    unacknowledged = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return transport.get_write_buffer_size() > 0 or struct.unpack("i", unacknowledged)[0] > 0
