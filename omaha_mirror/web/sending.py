"""How bytes of a file get to one client: from the page cache to the socket by sendfile, or in pieces through this process.

Pieces are for TLS, and for file systems and kernels without sendfile (some of FUSE, overlay, ZFS; a seccomp filter).
That there is none shows with the first byte or not at all, and is remembered for the device.

The metadata of a payload has rules of its own, for a client that goes on with an update
(update_engine/update_attempter.cc:669). It asks for bytes 0 to N-1, N being the size of the metadata, and then for the rest
from where it was. Where the first of both is cut after some bytes, it asks for as many from there on, so for more than it
lacks: what comes beyond the metadata, in another read than their last byte, aborts it
(update_engine/multi_range_http_fetcher.cc:78). It closes the connection when it has what it lacks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import cast

import structlog
from aiohttp import web

from omaha_mirror.cache import Reader, Window
from omaha_mirror.cache.errors import is_unreadable
from omaha_mirror.cache.page_cache import RECENT, is_in_memory, loaded
from omaha_mirror.http_ranges import ByteRange
from omaha_mirror.web import sendfile
from omaha_mirror.web.connection import Connection

LOG = structlog.get_logger(__name__)
PIECE = 16 * 1024
"""Bytes that are copied at a time for one client, and wait in memory for it: with TLS several times."""
LARGE_PIECE = 256 * 1024
"""The same where the kernel has room for all of it, so that none of it waits."""
NO_SENDFILE = {
    errno.EACCES,
    errno.EINVAL,
    errno.ENODEV,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ESPIPE,
}
"""What sendfile(2) fails with where a file, a file system or the kernel has none."""
WITHOUT_SENDFILE: set[int] = set()
"""The devices of files that cannot be sent so."""
TIME_TO_CLOSE = 5.0
"""Seconds that a client gets to close when it has all of the metadata."""
LOOK = 0.05
"""Seconds between two looks at what is still on its way to it."""
TOGETHER = 1024 * 1024
"""Bytes that are handed to the kernel in one piece at most."""
HEADERS = 64 * 1024
"""Bytes of room for the head of the answer, and for what the kernel counts besides."""


async def send_window(
    transport: asyncio.Transport, response: web.StreamResponse, reader: Reader, window: Window
) -> int:
    """Send bytes of a window as the client reads; gives how many, and 0 only where the first cannot be read.

    Raises:
        ConnectionError: the client left.
        OSError: the disk does not answer.
    """
    if transport.get_extra_info("sslcontext") is not None or _is_without_sendfile(window):
        with cuttable(transport, reader):
            return await _send_pieces(transport, response, window)
    sending = _Sending(transport, window)
    if transport.get_write_buffer_size() == 0:
        sending.go_on()
    if sending.sent == window.count:
        return sending.sent
    with cuttable(transport, reader):
        await sending.to_the_end()
        if sending.sent == window.count:
            return sending.sent
        # Why it ended, whether by the file or something of the moment, a piece will tell.
        rest = replace(
            window, offset=window.offset + sending.sent, count=window.count - sending.sent
        )
        return sending.sent + await _send_pieces(transport, response, rest.first(PIECE))


class _Sending:
    """A window on its way to a client by sendfile.

    Attributes:
        sent: how many of its bytes the kernel has.
    """

    __slots__ = ("_connection", "_gone", "_over", "_transport", "_until", "_window", "sent")

    def __init__(self, transport: asyncio.Transport, window: Window) -> None:
        self.sent = 0
        self._transport, self._window = transport, window
        self._connection: socket.socket = transport.get_extra_info("socket")
        self._until = time.monotonic() + RECENT
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone = ""

    async def to_the_end(self) -> None:
        """Go on whenever the client takes more, until all is sent, or no more can be sent so. Raises ConnectionError."""
        if not self._over.done():
            if self._transport.get_write_buffer_size() > 0:  # it goes first
                self._transport.set_write_buffer_limits(0)
                await cast(Connection, self._transport.get_protocol()).drained()
            with sendfile.whenever_writable(self._connection, self.go_on):
                await self._over
        if self._gone:
            raise ConnectionResetError(self._gone)

    def go_on(self) -> None:
        """Send what the socket takes now: for a client that keeps up, the whole window, with no round through the loop."""
        if self._over.done():
            return
        window, part = self._window, 0
        try:
            if self._is_in_memory():
                offset, count = window.offset + self.sent, window.count - self.sent
                part = sendfile.send_now(self._connection, window.file, offset, count)
        except BlockingIOError:
            return
        except ConnectionError as error:
            self._gone = str(error)
        except OSError as error:
            if error.errno in NO_SENDFILE:
                _remember(window, error)
        self.sent += part
        if not part or self.sent == window.count:
            self._over.set_result(None)

    def _is_in_memory(self) -> bool:
        """Whether what is left of the window still is in memory: a slow client can outlast what the page cache remembers."""
        now, window = time.monotonic(), self._window
        if now > self._until:
            self._until = now + RECENT
            return is_in_memory(window.file, window.offset + self.sent, window.count - self.sent)
        return True


async def _send_pieces(
    transport: asyncio.Transport, response: web.StreamResponse, window: Window
) -> int:
    """Send piece by piece as the client reads. A slow one can outlast what the page cache remembers of the window."""
    fd, sent = window.file.fileno(), 0
    connection: socket.socket = transport.get_extra_info("socket")
    while sent < window.count:
        piece_size = max(PIECE, min(sendfile.room(connection), LARGE_PIECE))
        offset, count = window.offset + sent, min(piece_size, window.count - sent)
        try:
            await loaded(window.file, offset, count, on_disk=window.on_disk)
            piece = os.pread(fd, count, offset)
        except OSError as error:
            if not is_unreadable(error):
                raise
            piece = b""
        if not piece:
            break
        await response.write(piece)
        await cast(Connection, transport.get_protocol()).drained()
        sent += len(piece)
    return sent


def _is_without_sendfile(window: Window) -> bool:
    return bool(WITHOUT_SENDFILE) and os.fstat(window.file.fileno()).st_dev in WITHOUT_SENDFILE


def _remember(window: Window, error: OSError) -> None:
    WITHOUT_SENDFILE.add(os.fstat(window.file.fileno()).st_dev)
    LOG.warning(
        "no sendfile: files are read and written in pieces, which costs more of the processor",
        why=error.strerror,
    )


@contextmanager
def cuttable(transport: asyncio.Transport, reader: Reader) -> Iterator[None]:
    """Within it a cut of the reader shuts the socket down; the task that sends ends the response."""
    connection: socket.socket = transport.get_extra_info("socket")

    def cut() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    reader.on_cut = cut
    try:
        yield
    finally:
        reader.on_cut = None


def may_be_metadata(part: ByteRange) -> bool:
    """Whether a range may ask for the metadata: the whole of it, or what the client lacks of it."""
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
    return transport.get_write_buffer_size() > 0 or sendfile.on_its_way(connection) > 0
