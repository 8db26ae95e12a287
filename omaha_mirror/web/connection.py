"""One connection of a client, from the moment it was accepted: what it waits for, and how it is closed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from aiohttp import StreamReader, web

from omaha_mirror.cache.errors import Stopping
from omaha_mirror.text import printable
from omaha_mirror.web.connection_table import ConnectionTable, client_key
from omaha_mirror.web.errors import plain
from omaha_mirror.web.http_connection import HttpConnection
from omaha_mirror.web.pending import PendingRequests
from omaha_mirror.web.rate_limited_log import MANY, RateLimitedLog

HELD = 64 * 1024 * 1024
"""Bytes of requests that have not arrived whole, and of answers that are not read, for all clients together."""
LEFT = 63 / 64
"""The part of it that stays when connections are closed: all of these end in one turn of the loop."""
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: what was not delivered is thrown away when the socket is closed."""


class Counted(Protocol):
    """What counts against the limit of connections."""

    @property
    def answering(self) -> bool:
        """Whether a request is here that is not answered yet."""

    def give_up(self) -> None:
        """Close the connection now."""

    def __hash__(self) -> int: ...


Table = ConnectionTable[Counted]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What all connections of a listener are counted in.

    Attributes:
        table: of them.
        log: of what clients can repeat at will.
        pending: the requests that a stop of the listener ends at once.
    """

    table: Table
    log: RateLimitedLog
    pending: PendingRequests


@dataclass(frozen=True, slots=True)
class Sample:
    """The bytes that a connection had delivered at a time of the loop."""

    at: float
    acknowledged: int


class Connection(HttpConnection):
    """Speaks HTTP, answers what is none with one line, and tells the table whether it or its client waits.

    A client is waited for from the beginning to the end of its request, body included, and again from the end of the
    answer on. The handshake of TLS comes before: there is no `transport` until it is over.

    Args:
        accounts: where it is counted, already.
        more: for HTTP.

    Attributes:
        raw: the connection below TLS.
        sample: what was delivered when that was looked at last.
    """

    __slots__ = (
        "_accounts",
        "_answered",
        "_answering",
        "_stays",
        "_table",
        "raw",
        "sample",
    )

    def __init__(self, accounts: Accounts, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._accounts, self._table = accounts, accounts.table
        self.raw: asyncio.Transport | None = None
        self.sample: Sample | None = None
        self._answering = False
        self._stays = True
        self._answered = 0

    # What it waits for

    def accepted(self, raw: asyncio.BaseTransport) -> None:
        """The connection is here; with TLS, the handshake begins."""
        self.raw = cast(asyncio.Transport, raw)
        if self not in self._table:
            self.raw.abort()

    def on_handshake_bytes(self, count: int) -> None:
        """Count bytes that came for TLS; those of the handshake are buffered until it is over."""
        if self.transport is None:
            self._take(count)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client can ask now."""
        if self.raw is None:
            self.accepted(transport)
        self._table.drop_held(self)
        self._table.set_idle(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests came."""
        if data:  # else aiohttp goes on with what came before
            self._take(len(data))
        stops = self._close, self._force_close
        if self._body is not None and not self._body.is_eof():
            # Else aiohttp drops the rest of a request when a stop has begun.
            self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = self._close or stops[0], self._force_close or stops[1]

    def on_asked(self, body: StreamReader) -> None:
        """A request has come, whose answer the client waits for when all of its body is here."""
        self._answering = self._stays = True
        if body.is_eof():
            self._table.set_busy(self)
        else:
            self._table.set_idle(self)
            body.on_eof(self._is_asked)

    def _is_asked(self) -> None:
        if self._answering:
            self._table.set_busy(self)

    def on_answered(self) -> None:
        """It is the client's turn again."""
        self._answering = False
        self._answered += 1
        self.sample = None
        if not self._messages:  # else more was sent ahead, of which the size is not known
            self._table.drop_held(self)
        self._table.set_idle(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free what a connection that has ended holds: its unread requests, and errors whose frames refer to it."""
        body, handler = self._body, self._task_handler
        super().connection_lost(exc)
        self._body = None
        for message, _ in self._messages:
            if (error := getattr(message, "exc", None)) is not None:
                error.__traceback__ = None
        self._messages.clear()
        if handler is not None and body is not None and not body.is_eof():
            handler.add_done_callback(partial(_drop_frames, body))

    def _take(self, count: int) -> None:
        self._table.hold(self, count)
        if self._table.held > HELD:
            self._accounts.log.tell(
                "too much is held for slow clients: they are cut", MANY, 0, limit=HELD
            )
            for connection in self._table.heaviest(int(HELD * LEFT)):
                connection.give_up()

    def on_package(self) -> None:
        """The answer is a package: a client that closes its side from now on has left."""
        self._stays = False

    def on_late_answer(self) -> None:
        """The answer is late on purpose: until it comes the connection is idle, and a client that closes its side leaves."""
        self._answering = self._stays = False
        self._table.set_idle(self)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio asks for it
        """The client has closed its side: it gets the answer that it waits for, and no other.

        A client that ended its side looks like one that left. One that left costs an answer of a few bytes, but
        would keep a package coming. With TLS the connection cannot stay half open.
        """
        waits = self._stays and self._request_count > self._answered
        if not waits or self._body is None or not self._body.is_eof():
            return None
        if self.raw is not self.transport:
            return None
        self.close()
        return True

    async def drained(self) -> None:
        """Return when the client takes more: aiohttp waits for that after each 64 KiB only. Raises ConnectionError."""
        await self._drain_helper()

    def on_forwarded(self, request: web.BaseRequest) -> None:
        """A proxy named the client of this request: until it is answered, the connection counts for that address."""
        if self.exempt and request.remote is not None:
            self._table.add(self, client_key(request.remote))
            if not request.content.is_eof():
                self._table.set_idle(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of the answer; then it is the client's turn again."""
        try:
            sent = await super().finish_response(request, resp, start_time)
            if self.writing_paused and self.raw is not None:
                self._table.set_idle(self)
                self._take(self.raw.get_write_buffer_size())
                await self._drain_helper()
            return sent
        finally:
            if self.exempt and self in self._table:
                self._table.add(self, None)
            self.on_answered()

    def waits(self) -> AbstractAsyncContextManager[None]:
        """See `pending`."""
        return self._accounts.pending.waits()

    @property
    def answering(self) -> bool:
        """Whether a request is here that is not answered yet."""
        return self._answering

    def give_up(self) -> None:
        """Close it now, and discard what is not delivered.

        Where a file may be on its way the socket is shut down, and the task that sends it ends the connection: aborting
        would break the loop.
        """
        self._table.remove(self)
        if self.raw is None:  # accepted just now: see there
            return
        if self._answering:
            connection: socket.socket = self.raw.get_extra_info("socket")
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                connection.shutdown(socket.SHUT_RDWR)
        else:
            self.raw.abort()

    def on_handshake_failure(self, error: BaseException | None) -> None:
        """The connection ended before its TLS handshake did."""
        peer = self.raw.get_extra_info("peername") if self.raw is not None else None
        if isinstance(error, ssl.SSLError):
            self._accounts.log.tell(
                "no TLS", peer[0] if peer else "", 0, why=printable(str(error.reason))
            )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP with one line, and log one."""
        if exc is not None:  # the parser's caller in its traceback keeps it, and this connection
            exc.__traceback__ = None
        if message is None or request.writer.output_size > 0:
            raise ConnectionAbortedError("nothing that can be answered") from exc
        why = printable(message.partition("\n")[0].rstrip(": "))
        self._accounts.log.tell("bad HTTP", request.remote or "", status, why=why)
        response = plain(status, why)
        response.force_close()
        return response


def sends_package(request: web.BaseRequest) -> None:
    """Note at its connection that the answer to a request is a package."""
    if isinstance(request.protocol, Connection):
        request.protocol.on_package()


def _drop_frames(body: StreamReader, handler: asyncio.Task[None]) -> None:
    """Free the frames of a handler that has ended: it and the body keep the errors that ended them, and those the frames."""
    with suppress(asyncio.CancelledError):
        handler.exception()  # a task keeps its cancellation until it is asked
    if (error := body.exception()) is not None:
        error.__traceback__ = None


def counts_for_client(request: web.BaseRequest) -> None:
    """Count the connection of a request for the client that a proxy named."""
    if isinstance(request.protocol, Connection):
        request.protocol.on_forwarded(request)


def pending(request: web.BaseRequest) -> AbstractAsyncContextManager[None]:
    """Within it a request waits for its answer to begin. Raises Stopping when its listener stops."""
    if isinstance(request.protocol, Connection):
        return request.protocol.waits()
    return nullcontext()


async def wait_late(request: web.BaseRequest, seconds: float) -> None:
    """Let a client wait for its answer, in a connection that may be closed for others; less long where the listener stops."""
    if isinstance(request.protocol, Connection):
        request.protocol.on_late_answer()
    with suppress(Stopping):
        async with pending(request):
            await asyncio.sleep(seconds)
