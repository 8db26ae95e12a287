"""Package bytes to a machine: from the page cache to the socket, by sendfile; over TLS in pieces, through this process.

Headers go out when the first body byte is in hand, never before: a client takes a head without a body for a complete
empty file and backs off for a day (update_engine/libcurl_http_fetcher.cc). A response that ends short ends in a closed
connection; the client then comes back with a Range.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from aiohttp import web

from omaha_mirror.cache import Reader, Window
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.finish import in_worker
from omaha_mirror.cache.residency import load, resident
from omaha_mirror.catalog import PackageFile
from omaha_mirror.reports import Sent
from omaha_mirror.semantics.ranges import ByteRange, Unsatisfiable, Whole
from omaha_mirror.semantics.validators import Precondition, evaluate, select
from omaha_mirror.web.errors import plain, reply_to
from omaha_mirror.web.mirror import Mirror

LOG = structlog.get_logger(__name__)
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
PIECE = 128 * 1024
"""Bytes that are encrypted at a time for one client."""
CACHE_STATUS = {
    "hit": "omaha-mirror; hit",
    "filling": "omaha-mirror; fwd=miss; collapsed",
    "miss": "omaha-mirror; fwd=miss",
}
"""RFC 9211, section 2."""


async def send_package(
    request: web.BaseRequest, mirror: Mirror, file: PackageFile, *, immutable: bool
) -> web.StreamResponse:
    """Answer GET or HEAD for a package.

    Args:
        request: the client's.
        mirror: has the bytes.
        file: what is asked for.
        immutable: whether the path can never get other bytes.
    """
    etag = f'"{file.sha256.hex}"' if file.sha256 is not None else None
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": IMMUTABLE if immutable else REVALIDATE,
        "Content-Type": "application/octet-stream",
    }
    if etag is not None:
        headers["ETag"] = etag
    match evaluate(request.method, request.headers, etag=etag, last_modified=None):
        case Precondition.NOT_MODIFIED:
            return web.Response(status=304, headers=headers)
        case Precondition.PRECONDITION_FAILED:
            return plain(412, "the package is not the one that the precondition names")
    if request.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": str(file.size)})
    match select(request.headers, size=file.size, etag=etag):
        case Unsatisfiable() as bad:
            refused = plain(416, f"the package has {file.size} bytes")
            refused.headers["Content-Range"] = bad.content_range(file.size)
            return refused
        case ByteRange() as part:
            headers["Content-Range"] = part.content_range(file.size)
            response = web.StreamResponse(status=206, headers=headers)
            return await _send(request, response, mirror, file, part.start, part.stop)
        case Whole():
            response = web.StreamResponse(headers=headers)
            return await _send(request, response, mirror, file, 0, file.size)


async def _send(
    request: web.BaseRequest,
    response: web.StreamResponse,
    mirror: Mirror,
    file: PackageFile,
    start: int,
    stop: int,
) -> web.StreamResponse:
    began = time.monotonic()
    reader, outcome, level, why = None, "cut", "info", "cancelled"
    try:
        with mirror.read(file, start, stop) as reader:
            await _copy(request, response, mirror, reader)
        outcome, why = "whole", ""
        return response
    except ConnectionError as error:
        why = str(error)
        request.protocol.force_close()
        return response
    except (CacheError, OSError) as error:
        reply, why = reply_to(error), str(error)
        level = reply.level
        mirror.failed(reply.label)
        # Trouble that may pass must not end the attempt of a client that resumes: it is closed without an answer.
        if response.prepared or (start > 0 and reply.status >= 500):
            request.protocol.force_close()
            return response
        outcome = reply.label
        return plain(reply.status, why)
    finally:
        told = Sent(
            file=file,
            remote=request.remote or "",
            start=start,
            stop=stop,
            count=reader.offset - start if reader is not None else 0,
            cache=reader.status if reader is not None else "miss",
            seconds=time.monotonic() - began,
        )
        if response.prepared:
            mirror.sent(told)
        _log(level, told, outcome, why)


async def _copy(
    request: web.BaseRequest, response: web.StreamResponse, mirror: Mirror, reader: Reader
) -> None:
    window = await reader.window()
    response.content_length = reader.stop - reader.start
    response.headers["Cache-Status"] = CACHE_STATUS[reader.status]
    await response.prepare(request)
    while window is not None:
        await _send_window(request, response, reader, window, mirror)
        window = await reader.window()


def _log(level: str, sent: Sent, outcome: str, why: str) -> None:
    """The one line of this request."""
    more = {"why": why} if why else {}
    getattr(LOG, level)(
        "package",
        remote=sent.remote,
        file=sent.file.name,
        start=sent.start,
        stop=sent.stop,
        bytes=sent.count,
        cache=sent.cache,
        outcome=outcome,
        seconds=round(sent.seconds, 3),
        **more,
    )


async def _send_window(
    request: web.BaseRequest,
    response: web.StreamResponse,
    reader: Reader,
    window: Window,
    mirror: Mirror,
) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")
    if transport.get_extra_info("sslcontext") is not None:
        sent = await _send_encrypted(transport, response, reader, window)
    else:
        sent = await _send_file(transport, reader, window)
    reader.advance(sent)
    mirror.served(sent, reader.status)
    if sent < window.count:
        raise CacheError(f"{window.count - sent} bytes are missing on disk")


async def _send_encrypted(
    transport: asyncio.Transport, response: web.StreamResponse, reader: Reader, window: Window
) -> int:
    """Send piece by piece as the client reads. A slow one can outlast what the page cache remembers of the window."""
    fd, sent = window.file.fileno(), 0
    with _cuttable(transport, reader):
        while sent < window.count:
            offset, count = window.offset + sent, min(PIECE, window.count - sent)
            if not resident(fd, offset, count):
                await in_worker(load, fd, offset, count)
            piece = os.pread(fd, count, offset)
            if not piece:
                break
            await response.write(piece)
            sent += len(piece)
    return sent


async def _send_file(transport: asyncio.Transport, reader: Reader, window: Window) -> int:
    sent = _send_at_once(transport, window)
    if sent == window.count:
        return sent
    rest = Window(window.file, window.offset + sent, window.count - sent)
    with _cuttable(transport, reader):
        return sent + await _send_patiently(transport, rest)


def _send_at_once(transport: asyncio.Transport, window: Window) -> int:
    """Send what the socket takes now: for a client that keeps up, the whole window, with no round through the loop."""
    if transport.get_write_buffer_size() > 0:
        return 0
    connection: socket.socket = transport.get_extra_info("socket")
    try:
        return os.sendfile(connection.fileno(), window.file.fileno(), window.offset, window.count)
    except BlockingIOError:
        return 0


async def _send_patiently(transport: asyncio.Transport, window: Window) -> int:
    """Send as the client reads."""
    try:
        return await asyncio.get_running_loop().sendfile(
            transport, window.file, window.offset, window.count, fallback=False
        )
    except asyncio.SendfileNotAvailableError as error:
        raise ConnectionResetError("the client left") from error


@contextmanager
def _cuttable(transport: asyncio.Transport, reader: Reader) -> Iterator[None]:
    """Who must cut the reader meanwhile shuts the socket down; the task that sends ends the response."""
    connection: socket.socket = transport.get_extra_info("socket")

    def cut() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    reader.on_cut = cut
    try:
        yield
    finally:
        reader.on_cut = None
