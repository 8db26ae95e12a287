"""Listening: connections, their deadlines and their end.

aiohttp's low-level server does HTTP; this adds what it leaves open: a deadline for the first request of a connection,
and the kernel's help against peers that are gone (sendfile has no deadline of its own).
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from aiohttp import web

from omaha_mirror.config import Address
from omaha_mirror.telemetry import printable
from omaha_mirror.web.errors import plain
from omaha_mirror.web.sparing import Sparing

FIRST_REQUEST = 10.0
KEEP_ALIVE = 30.0
USER_TIMEOUT_MS = 120_000
BACKLOG = 1024
SECURE_BUFFER = 64 * 1024
"""Bytes that wait, encrypted or not yet, for one client that reads slowly."""
MAX_CONNECTIONS = 20_000
RESERVED = 256
"""File descriptors that connections leave to the rest of the process."""
GRACE = 10.0
"""Seconds that responses under way get when the mirror stops."""
TURNS = 3
"""What the loop takes from accepting a connection to `connection_made`; closing the server earlier drops it unheard."""
LAST_WORDS = 1.0
"""Seconds that connections which were taken just before get to send their first request."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Place = Address | socket.socket
"""Where to listen: an address, or a socket that listens already."""


class _Connection(web.RequestHandler):
    """Answers what is no HTTP with one line, and logs one."""

    __slots__ = ("log",)
    log: Sparing

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if message is None or request.writer.output_size > 0:
            raise ConnectionAbortedError("nothing that can be answered") from exc
        why = printable(message.partition("\n")[0].rstrip(": "))
        self.log.tell("bad HTTP", request.remote or "", status, why=why)
        response = plain(status, why)
        response.force_close()
        return response


class _Server(web.Server):
    """One listener's connections."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(
            self._first_come,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE,
        )
        self._handler = handler
        self._deadlines: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._all_heard = asyncio.Event()
        self._all_heard.set()
        self._limit = most_connections()
        self._log = Sparing()

    def __call__(self) -> web.RequestHandler:
        connection = _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)
        connection.log = self._log
        return connection

    async def _first_come(self, request: web.BaseRequest) -> web.StreamResponse:
        self._forget(request.protocol)
        return await self._handler(request)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connection = transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if transport.get_extra_info("sslcontext") is not None:
            transport.set_write_buffer_limits(SECURE_BUFFER)
        if len(self.connections) > self._limit:
            self._log.tell(
                "too many connections: one is turned away",
                "many addresses",
                0,
                level="warning",
                limit=self._limit,
            )
            handler.force_close()
            return
        loop = asyncio.get_running_loop()
        self._deadlines[handler] = loop.call_later(FIRST_REQUEST, handler.force_close)
        self._all_heard.clear()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self._forget(handler)
        super().connection_lost(handler, exc)

    def _forget(self, handler: web.RequestHandler) -> None:
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()
        if not self._deadlines:
            self._all_heard.set()

    async def hear_out(self) -> None:
        """Wait a moment for the first requests of all connections that were taken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._all_heard.wait()


class Listener:
    """A set of addresses and sockets that a handler answers on.

    Args:
        handler: answers every request; a ConnectionError that it raises ends the connection without a word.
    """

    def __init__(self, handler: Handler) -> None:
        self._server = _Server(handler)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=GRACE)
        self._servers: list[asyncio.Server] = []

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._server.connections)

    async def start(
        self, places: Iterable[Place], context: ssl.SSLContext | None = None
    ) -> list[Address]:
        """Begin to listen there, too; gives the addresses with the ports that were really taken.

        A socket is closed at the end; where another process has it too, connections wait in it from then on.

        Args:
            places: where.
            context: for TLS; None: without it.

        Raises:
            OSError: an address cannot be had; the message names it.
        """
        if self._runner.server is None:
            await self._runner.setup()
        taken: list[Address] = []
        for place in places:
            try:
                server = await self._open(place, context)
            except OSError as error:
                await self.stop()
                raise OSError(f"cannot listen on {place}: {_reason(error)}") from None
            self._servers.append(server)
            taken += [Address(*sock.getsockname()[:2]) for sock in server.sockets]
        return taken

    async def _open(self, place: Place, context: ssl.SSLContext | None) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        handshake = None if context is None else FIRST_REQUEST
        if isinstance(place, socket.socket):
            return await loop.create_server(
                self._server,
                sock=place,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=handshake,
            )
        return await loop.create_server(
            self._server,
            place.host,
            place.port,
            backlog=BACKLOG,
            reuse_address=True,
            ssl=context,
            ssl_handshake_timeout=handshake,
        )

    async def stop(self) -> None:
        """Stop listening; who was let in is still heard, and responses under way get a moment to end."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for sock in server.sockets:
                loop.remove_reader(sock.fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        await self._server.hear_out()
        await self._runner.cleanup()


def most_connections() -> int:
    """How many connections a listener holds at once: as many as file descriptors allow, within reason."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(1, descriptors - RESERVED))


def _reason(error: OSError) -> str:
    """Without asyncio's own words, which name the address again."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror or error)
