"""A listener: its connections, their limit, their deadlines and their end.

aiohttp's low-level server does HTTP; this adds what it leaves open: a count of all that was accepted, TLS handshakes
included, which connection is closed where there are too many, a deadline for the first request of a connection, and the kernel's help
against peers that are gone (sendfile has no deadline of its own).
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from aiohttp import web

from omaha_mirror.aio.tasks import keep_running, log_failure
from omaha_mirror.config import Address
from omaha_mirror.web import slow_clients
from omaha_mirror.web.accepting import Acceptor, Arrival, Arrivals, Place, open_sockets
from omaha_mirror.web.connection import Accounts, Connection, Counted, Table
from omaha_mirror.web.connection_table import client_key
from omaha_mirror.web.fairness import Deadlines, Recent, Requests
from omaha_mirror.web.http_connection import AtOnce, HttpConnection, Serving, never
from omaha_mirror.web.pending import PendingRequests
from omaha_mirror.web.rate_limited_log import MANY, RateLimitedLog
from omaha_mirror.web.tls import Secure

FIRST_REQUEST = 10.0
"""Seconds for the handshake of TLS, and again for the first request."""
KEEP_ALIVE = 30.0
LINGER = 2.0
"""Seconds that a client gets to read why its body is not wanted, while it still sends it."""
USER_TIMEOUT_MS = 120_000
SECURE_BUFFER = 16 * 1024
"""Bytes that wait for one client that reads slowly, encrypted ones and others each."""
RECEIVED = 4 * 1024
"""Bytes that are read at a time from one client."""
MAX_CONNECTIONS = 20_000
RESERVED = 256
"""File descriptors that connections leave to the rest of the process."""
SPARE = 32
"""Of those, for addresses with few connections until it is known who is slow."""
MADE_FREE = 8
"""Connections that are given up when descriptors have run out, for each time that they have."""
TIME_TO_ASK = 2.0
"""Seconds that a connection must have been idle to be one of them: a new one is about to send its request."""
GRACE = 10.0
"""Seconds that responses under way get when the mirror stops."""
LAST_WORDS = 1.0
"""Seconds that connections which were accepted just before get to send their first request."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Server(web.Server):
    """One listener's connections."""

    def __init__(
        self, handler: Handler, limit: int, exempt: Callable[[str], bool], at_once: AtOnce
    ) -> None:
        super().__init__(
            self._heard,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=LINGER,
        )
        self.table = Table()
        self.short = ""
        self.pending = PendingRequests()
        self._handler, self._limit, self._exempt = handler, limit, exempt
        self._unheard = Deadlines[Counted](FIRST_REQUEST, lambda one: one.give_up())
        self.arrivals = Arrivals(self._let_in)
        self._recent = Recent()
        self._arriving: set[asyncio.Task[None]] = set()
        self._log = RateLimitedLog()
        self._accounts = Accounts(self.table, self._log, self.pending)
        idle = Deadlines[HttpConnection](KEEP_ALIVE, lambda one: one.on_idle())
        self._serving = Serving(at_once, Requests(), self._unheard, idle)

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        self._unheard.cancel(connection)
        connection.on_asked(request.content)
        if not connection.exempt and not connection.took_turn():
            await self._serving.requests.turn(client_key(request.remote or ""))
        return await self._handler(request)

    # Who is let in

    def arrived(self, context: ssl.SSLContext | None, sock: socket.socket, address: str) -> None:
        """Take a connection that was accepted, unless the limit is reached."""
        key = None if self._exempt(address) else client_key(address)
        if not self._admits(self.table.count(key)):
            sock.close()
            return
        arrival = Arrival(sock, context, address, key, self._left)
        self._enter(arrival, key)
        if key is None or self._recent.few(key):
            self._let_in(arrival)
        else:
            self.arrivals.put(arrival)

    def _left(self, one: Counted) -> None:
        self._unheard.cancel(one)
        self.table.remove(one)

    def _enter(self, one: Counted, key: str | None) -> None:
        self.table.add(one, key)
        self.table.set_idle(one)
        self._unheard.start(one)

    def _let_in(self, arrival: Arrival) -> None:
        self._left(arrival)
        context = arrival.context
        connection = Connection(
            *(self._accounts, self, self._serving, arrival.address, arrival.key), **self._kwargs
        )
        self._enter(connection, arrival.key)
        protocol = connection if context is None else Secure(connection, context)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._connect(connection, arrival.sock, protocol))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        task.add_done_callback(log_failure)

    def _admits(self, count: int) -> bool:
        """Whether an address with `count` connections may have one more; another connection may be closed for it."""
        if len(self.table) < self._limit:
            return True
        most, given_up = self.table.most(), self.table.to_close(count)
        if given_up is not None:
            given_up.give_up()
            self._tell("too many connections: one that is idle or slow is closed", most=most)
            return True
        if not count and len(self.table) < self._limit + SPARE:
            return True
        self._tell("too many connections: a new one is refused", most=most)
        return False

    def _tell(self, event: str, **details: object) -> None:
        self._log.tell(event, MANY, 0, level="warning", limit=self._limit, **details)

    async def _connect(
        self, connection: Connection, sock: socket.socket, protocol: asyncio.BaseProtocol
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            raw, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError as error:  # it has ended before it began
            sock.close()
            connection.connection_lost(error)
            return
        # Else each read makes room for 256 KiB.
        cast(Any, raw).max_size = RECEIVED

    def lacks(self, what: str) -> None:
        """Note why no connection can be accepted now; "" when accepting goes on."""
        self.short = what
        if what:
            self._tell("no connection can be accepted for now", why=what)
            self._give_up(MADE_FREE, 0, TIME_TO_ASK)

    def _give_up(self, count: int, more_than: int, seconds: float = 0.0) -> None:
        for _ in range(count):
            given_up = self.table.to_close(more_than, seconds)
            if given_up is None:
                break
            given_up.give_up()

    def looked(self) -> None:
        """Close connections above the limit, now that it is known which are slow."""
        self._give_up(len(self.table) - self._limit, 1)

    # Who is heard

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if transport.get_extra_info("sslcontext") is not None:
            for layer in (transport, cast(Connection, handler).raw):
                cast(asyncio.Transport, layer).set_write_buffer_limits(SECURE_BUFFER)
            self._unheard.start(cast(Connection, handler))

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self._left(cast(Connection, handler))
        super().connection_lost(handler, exc)

    async def hear_out(self) -> None:
        """Wait a moment for the first requests of all connections that were accepted."""
        self.arrivals.all()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._unheard.none.wait()
        self._unheard.close()


class Listener:
    """A set of addresses and sockets that a handler answers on.

    Args:
        handler: answers every request; a ConnectionError that it raises ends the connection without a word.
        exempt: whether an address is that of a proxy, whose connections count for those that it names.
        limit: most connections at once; None: as many as descriptors allow.
    """

    def __init__(
        self,
        handler: Handler,
        exempt: Callable[[str], bool] = lambda _: False,
        limit: int | None = None,
    ) -> None:
        at_once: AtOnce = getattr(handler, "at_once", never)
        self._server = _Server(handler, limit or most_connections(), exempt, at_once)
        # aiohttp waits so long for the handlers, and again when it has given up what they still receive.
        self._runner = web.ServerRunner(self._server, shutdown_timeout=GRACE / 2)
        self._acceptors: list[Acceptor] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """The number of open connections, whether or not they have sent anything."""
        return len(self._server.table)

    @property
    def short(self) -> str:
        """What has run out, while no connection can be accepted; else empty."""
        return self._server.short

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
            table = self._server.table
            watch = partial(slow_clients.watch, table, self._server.looked)
            self._watching = asyncio.create_task(keep_running(watch, "looking for slow clients"))
        taken: list[Address] = []
        for place in places:
            try:
                taken += await self._open(place, context)
            except OSError as error:
                await self.stop()
                raise OSError(f"cannot listen on {place}: {_reason(error)}") from None
        return taken

    async def _open(self, place: Place, context: ssl.SSLContext | None) -> list[Address]:
        arrived = partial(self._server.arrived, context)
        sockets = await open_sockets(place)
        acceptors = [Acceptor(sock, arrived, self._server.lacks) for sock in sockets]
        self._acceptors += acceptors
        for acceptor in acceptors:
            acceptor.start()
        return [Address(*sock.getsockname()[:2]) for sock in sockets]

    async def stop(self) -> None:
        """Stop listening; open connections may still send their first request, and responses under way get a moment to end.

        A request for a package of which no byte has arrived ends at once.
        """
        for acceptor in self._acceptors:
            acceptor.close()
        self._server.pending.let_go()
        await self._server.hear_out()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._runner.cleanup()


def most_connections() -> int:
    """How many connections a listener holds at once: as many as file descriptors allow, within reason."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, max(1, descriptors - RESERVED))


def _reason(error: OSError) -> str:
    """Without asyncio's own words, which name the address again."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error.strerror or error)
