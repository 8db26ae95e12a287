"""Listening: connections, their deadlines and their end.

aiohttp's low-level server does HTTP; this adds what it leaves open: a deadline for the first request of a connection,
and the kernel's help against peers that are gone (sendfile has no deadline of its own).
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiohttp import web

from omaha_mirror.config import Address
from omaha_mirror.telemetry import printable
from omaha_mirror.web.errors import plain

LOG = structlog.get_logger(__name__)

FIRST_REQUEST = 10.0
KEEP_ALIVE = 30.0
USER_TIMEOUT_MS = 120_000
BACKLOG = 1024
MAX_CONNECTIONS = 20_000
RESERVED = 256
"""File descriptors that connections leave to the rest of the process."""
GRACE = 10.0
"""Seconds that responses under way get when the mirror stops."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connection(web.RequestHandler):
    """Answers what is no HTTP with one line, and logs one."""

    __slots__ = ()

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
        LOG.info("bad HTTP", remote=request.remote, why=why)
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
        self._limit = most_connections()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)

    async def _first_come(self, request: web.BaseRequest) -> web.StreamResponse:
        self._forget(request.protocol)
        return await self._handler(request)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        connection = transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if len(self.connections) > self._limit:
            LOG.warning("too many connections: one is turned away", limit=self._limit)
            handler.force_close()
            return
        loop = asyncio.get_running_loop()
        self._deadlines[handler] = loop.call_later(FIRST_REQUEST, handler.force_close)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self._forget(handler)
        super().connection_lost(handler, exc)

    def _forget(self, handler: web.RequestHandler) -> None:
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()


class Listener:
    """A set of addresses that a handler answers on.

    Args:
        handler: answers every request; a ConnectionError that it raises ends the connection without a word.
    """

    def __init__(self, handler: Handler) -> None:
        self._runner = web.ServerRunner(_Server(handler), shutdown_timeout=GRACE)

    async def start(self, addresses: Iterable[Address]) -> list[Address]:
        """Begin to listen; gives the addresses with the ports that were really taken.

        Raises:
            OSError: an address cannot be had; the message names it.
        """
        await self._runner.setup()
        for address in addresses:
            site = web.TCPSite(
                self._runner, address.host, address.port, backlog=BACKLOG, reuse_address=True
            )
            try:
                await site.start()
            except OSError as error:
                await self.stop()
                raise OSError(f"cannot listen on {address}: {_reason(error)}") from None
        return [Address(name[0], name[1]) for name in self._runner.addresses]

    async def stop(self) -> None:
        """Stop listening; responses under way get a moment to end."""
        await self._runner.cleanup()


def most_connections() -> int:
    """How many connections a listener holds at once: as many as file descriptors allow, within reason."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(1, descriptors - RESERVED))


def _reason(error: OSError) -> str:
    """Without asyncio's own words, which name the address again."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror or error)
