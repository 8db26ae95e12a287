"""Package bytes to a machine: which of them, under which head, and what is sent when there are none.

Headers go out when the first body byte is in hand, never before: a client takes a head without a body for a complete
empty file and backs off for a day (update_engine/libcurl_http_fetcher.cc). A response that ends short ends in a closed
connection; the client then comes back with a Range.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from aiohttp import web

from omaha_mirror.cache import Reader, Window
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.catalog import PackageFile
from omaha_mirror.http_ranges import ByteRange, Precondition, Unsatisfiable, Whole, evaluate, select
from omaha_mirror.observability.observers import TransferReport
from omaha_mirror.observability.telemetry import tell
from omaha_mirror.web.connection import pending
from omaha_mirror.web.connection_table import client_key
from omaha_mirror.web.errors import UNEXPECTED, Reply, plain, reply_to
from omaha_mirror.web.interfaces import Observer, Packages
from omaha_mirror.web.sending import (
    cuttable,
    in_one_piece,
    may_be_metadata,
    pause_at,
    send_window,
    wait_for_close,
)

LOG = structlog.get_logger(__name__)
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
CACHE_STATUS = {
    "hit": "omaha-mirror; hit",
    "filling": "omaha-mirror; fwd=miss; collapsed",
    "miss": "omaha-mirror; fwd=miss",
}
"""RFC 9211, section 2."""


async def send_package(
    request: web.BaseRequest,
    packages: Packages,
    observer: Observer,
    file: PackageFile,
    *,
    immutable: bool,
) -> web.StreamResponse:
    """Answer GET or HEAD for a package.

    Args:
        request: the client's.
        packages: have the bytes.
        observer: counts them.
        file: what is asked for.
        immutable: whether the path can never get other bytes.
    """
    etag = f'"{file.sha256.raw.hex()}"' if file.sha256 is not None else None
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
            response = _Answer(status=206, headers=headers)
        case Whole():
            part, response = ByteRange(0, file.size), _Answer(headers=headers)
    return await _send(request, response, packages, observer, file, part)


class _Answer(web.StreamResponse):
    """A head and a body of bytes."""

    def hold_head(self) -> None:
        """Before it is prepared: let the head leave together with the first of the body."""
        self._send_headers_immediately = False


async def _send(
    request: web.BaseRequest,
    response: _Answer,
    packages: Packages,
    observer: Observer,
    file: PackageFile,
    part: ByteRange,
) -> web.StreamResponse:
    began = time.monotonic()
    reader, outcome, level, why = None, "cut", "info", "cancelled"
    try:
        with packages.read(file, part.start, part.stop, client_key(request.remote or "")) as reader:
            await _copy(request, response, observer, reader, part)
        outcome, why = "whole", ""
        return response
    except ConnectionError as error:
        why = str(error)
        request.protocol.force_close()
        return response
    except Exception as error:
        reply, why = reply_to(error), str(error)
        if reply is UNEXPECTED and not isinstance(error, CacheError):
            LOG.exception("a package could not be sent", file=file.name)
        level = reply.level
        tell(observer.on_package_error, reply.label)
        status = _status(reply, part)
        if response.prepared or status is None:
            request.protocol.force_close()
            return response
        outcome = reply.label
        return plain(status, reply.words or why)
    finally:
        report = _report(request, file, part, reader, began)
        if response.prepared:
            tell(observer.on_transfer_end, report)
        _log(level, report, outcome, why)


def _report(
    request: web.BaseRequest,
    file: PackageFile,
    part: ByteRange,
    reader: Reader | None,
    began: float,
) -> TransferReport:
    return TransferReport(
        file=file,
        remote=request.remote or "",
        start=part.start,
        stop=part.stop,
        count=reader.offset - part.start if reader is not None else 0,
        cache=reader.status if reader is not None else "miss",
        seconds=time.monotonic() - began,
    )


def _status(reply: Reply, part: ByteRange) -> int | None:
    """What an error is answered with before a byte was sent; None: the connection is closed without an answer.

    Trouble that may pass must not end the attempt of a client that resumes.
    """
    return reply.resumed if part.start > 0 and reply.status >= 500 else reply.status


async def _copy(
    request: web.BaseRequest,
    response: _Answer,
    observer: Observer,
    reader: Reader,
    part: ByteRange,
) -> None:
    if reader.status == "hit":
        window = await reader.window()
    else:
        async with pending(request):
            window = await reader.window()
    metadata_size, pause = 0, None
    if part.asked is not None:
        metadata_size = await reader.head_size() if may_be_metadata(part) else 0
        pause = pause_at(part, metadata_size)
    response.content_length = reader.stop - reader.start
    response.headers["Cache-Status"] = CACHE_STATUS[reader.status]
    if window is not None and part.start < metadata_size:
        lacking = (pause or part.stop) - part.start
        if together := in_one_piece(request.transport, window, lacking):
            response.hold_head()
            await response.prepare(request)
            await _send_together(request, response, reader, together, observer)
            window = await _next(request, reader, pause)
    await response.prepare(request)
    while window is not None:
        if pause is not None and reader.offset < pause:
            window = window.first(pause - reader.offset)
        await _send_window(request, response, reader, window, observer)
        window = await _next(request, reader, pause)


async def _next(request: web.BaseRequest, reader: Reader, pause: int | None) -> Window | None:
    """The next window; at the end of the metadata only when a client that wants no more has had time to close."""
    if reader.offset == pause:
        await wait_for_close(request.transport)
    return await reader.window()


def _log(level: str, sent: TransferReport, outcome: str, why: str) -> None:
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


async def _send_together(
    request: web.BaseRequest,
    response: _Answer,
    reader: Reader,
    together: bytes,
    observer: Observer,
) -> None:
    with cuttable(_transport(request), reader):
        await response.write(together)
    reader.advance(len(together))
    tell(observer.on_bytes, len(together), reader.status)


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    """To the client. Raises ConnectionResetError where it left."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")
    return transport


async def _send_window(
    request: web.BaseRequest,
    response: web.StreamResponse,
    reader: Reader,
    window: Window,
    observer: Observer,
) -> None:
    sent = await send_window(_transport(request), response, reader, window)
    reader.advance(sent)
    tell(observer.on_bytes, sent, reader.status)
    if not sent:
        reader.unreadable(f"bytes are missing on disk at {reader.offset}")
