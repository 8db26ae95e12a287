"""A network in memory: machines by address, lines between them, and what goes wrong on these."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Literal

from tests.sim.loop import PROCESS, Process, SimLoop
from tests.sim.sockets import SimSocket
from tests.sim.tcp import Address, End, Link
from tests.sim.transport import SimTransport

FIRST_PORT = 32768
FIRST_NUMBER = 1 << 28
"""So that no real descriptor is meant by one of these."""


class Net:
    """All machines.

    Args:
        loop: runs it.
        rng: decides about segments.
        new_link: makes a line between two addresses; an attribute, too.
    """

    def __init__(
        self,
        loop: SimLoop,
        rng: random.Random,
        new_link: Callable[[str, str], Link] = lambda *_: Link(),
    ) -> None:
        self.loop = loop
        loop.net = self
        self._rng = rng
        self.new_link = new_link
        self._links: dict[tuple[str, str], Link] = {}
        self._listening: dict[Address, SimSocket] = {}
        self._open: dict[int, SimSocket] = {}
        self._numbers = FIRST_NUMBER
        self._ports = FIRST_PORT

    # Lines and their faults

    def link(self, one: str, other: str) -> Link:
        """The line between two machines."""
        names = min(one, other), max(one, other)
        if names not in self._links:
            self._links[names] = self.new_link(*names)
        return self._links[names]

    def cut(self, one: str, other: str, how: Literal["reset", "fin"] = "reset") -> int:
        """Cut all connections between two machines, as a router does; how many."""
        ends = [end for end in self.link(one, other).ends.values() if not end.closed]
        for end in ends:
            if how == "reset":
                end.fail(ConnectionResetError(104, "Connection reset by peer"))
            else:
                end.eof = end.peer.fin_sent = end.peer.fin_to_send = True
                end.peer.out.clear()
                end.peer.waiting = 0
                end.readable()
        return len(ends) // 2

    def open_sockets(self, process: Process) -> int:
        """How many sockets a process has open."""
        return sum(sock.process is process for sock in self._open.values())

    def heal(self) -> None:
        """Every line is well from now on; one that is slow stays so."""
        for link in list(self._links.values()):
            link.refuses = link.lost = link.stalled = False

    def close(self) -> None:
        """Forget all."""
        self._links.clear()
        self._listening.clear()
        self._open.clear()

    def on_end(self, process: Process) -> None:
        """A process has ended: its kernel closes what it had open."""
        for sock in [sock for sock in self._open.values() if sock.process is process]:
            if sock.end is not None:
                sock.end.transport = None
            sock.close()

    # Sockets

    def _socket(
        self, local: Address, peer: Address | None = None, end: End | None = None
    ) -> SimSocket:
        self._numbers += 1
        sock = SimSocket(self, self._numbers, local, peer, end)
        self._open[sock.number] = sock
        return sock

    def forget(self, sock: SimSocket) -> None:
        """A socket was closed."""
        self._open.pop(sock.number, None)
        if self._listening.get(sock.local) is sock:
            del self._listening[sock.local]
        if (end := sock.end) is not None and end.peer.closed:
            end.link.ends.pop(end.number, None)
            end.link.ends.pop(end.peer.number, None)

    def bind(self, host: str, port: int) -> SimSocket:
        """A socket that can listen. Raises OSError."""
        if port == 0:
            port = self._next_port()
        if (host, port) in self._listening:
            raise OSError(98, "Address already in use")
        sock = self._socket((host, port))
        self._listening[host, port] = sock
        return sock

    def _next_port(self) -> int:
        self._ports += 1
        return self._ports

    async def connect(self, host: str, port: int) -> SimSocket:
        """A connection from the process that asks. Raises OSError."""
        process = PROCESS.get()
        local = process.address if process is not None else "10.0.9.9"
        link = self.link(local, host)
        await asyncio.sleep(link.latency)
        while link.stalled or link.lost:  # noqa: ASYNC110 - the first packet is sent again and again
            await asyncio.sleep(1.0)
        listener = self._listening.get((host, port))
        await asyncio.sleep(link.latency)
        if listener is None or not listener.listens or listener.fileno() < 0 or link.refuses:
            raise ConnectionRefusedError(111, f"Connect call failed {(host, port)}")
        near, far = (
            End(self, link, self._rng, number) for number in (self._numbers + 1, self._numbers + 2)
        )
        near.peer, far.peer = far, near
        here, there = (local, self._next_port()), (host, port)
        mine, other = self._socket(here, there, near), self._socket(there, here, far)
        other.process = listener.process
        listener.backlog.append(other)
        listener.arrived()
        return mine

    async def attach(self, factory: Callable[[], Any], sock: SimSocket) -> tuple[SimTransport, Any]:
        """A transport and its protocol for a connection."""
        protocol = factory()
        if sock.fileno() < 0:
            raise OSError(9, "Bad file descriptor")
        transport = SimTransport(self.loop, sock, protocol)
        began = self.loop.create_future()

        def begin() -> None:
            transport.begin()
            if not began.done():
                began.set_result(None)

        self.loop.call_soon(begin)
        await began
        return transport, protocol

    async def create_server(
        self,
        factory: Callable[[], Any],
        host: str,
        port: int,
        *,
        sock: Any = None,
        start_serving: bool = True,
        **_: Any,
    ) -> SimServer:
        """See `asyncio.loop.create_server`."""
        server = SimServer(self, factory, sock or self.bind(host, port))
        if start_serving:
            await server.start_serving()
        return server


class SimServer(asyncio.AbstractServer):
    """See `asyncio.Server`."""

    def __init__(self, net: Net, factory: Callable[[], Any], sock: SimSocket) -> None:
        self.sockets = (sock,)
        self._net, self._factory, self._sock = net, factory, sock
        self._context = copy_context()
        self._arriving: dict[asyncio.Task[Any], None] = {}

    def _accept(self) -> None:
        while self._sock.backlog:
            accepted, _ = self._sock.accept()
            task = self._net.loop.create_task(self._net.attach(self._factory, accepted))
            self._arriving[task] = None
            task.add_done_callback(lambda done: self._arriving.pop(done, None))

    async def start_serving(self) -> None:
        self._sock.listen()
        self._net.loop.add_reader(self._sock, self._accept)

    async def serve_forever(self) -> None:
        await self._net.loop.create_future()

    def is_serving(self) -> bool:
        return self._sock.fileno() >= 0

    def close(self) -> None:
        self._net.loop.remove_reader(self._sock)
        self._sock.close()

    async def wait_closed(self) -> None: ...

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._net.loop
