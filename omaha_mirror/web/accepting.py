"""Taking connections from sockets that listen, and letting them in: addresses take turns.

Connections are counted from the moment they are accepted, and accepting pauses where descriptors run out. Accepting costs
little, and what comes after it costs much more: an address that opens thousands of connections waits for them; another
one, which opens one, does not.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from omaha_mirror.config import Address
from omaha_mirror.web.fairness import ByTurns

BACKLOG = 4096
AT_A_TIME = 32
"""Connections that are accepted before the loop does something else."""
PAUSE = 0.1
"""Seconds until accepting is tried again where something has run out."""
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of accept(2) where descriptors or memory have run out, in this process or on this machine."""
Place = Address | socket.socket
"""Where to listen: an address, or a socket that listens already."""
LET_IN = 1
"""How many are let in before the loop does something else."""


async def open_sockets(place: Place) -> list[socket.socket]:
    """The sockets to listen on, which are the caller's. Raises OSError."""
    if isinstance(place, socket.socket):
        place.setblocking(False)
        return [place]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        asyncio.Protocol, place.host, place.port, reuse_address=True, start_serving=False
    )
    try:
        return [socket.socket(fileno=os.dup(sock.fileno())) for sock in server.sockets]
    finally:
        server.close()


class Acceptor:
    """Accepts on one socket, which it closes at the end.

    Args:
        sock: bound, and not blocking.
        arrived: given each connection and the address that it comes from; it must not wait.
        short: called with what has run out, each time that accepting pauses, and with "" when it goes on.
    """

    def __init__(
        self,
        sock: socket.socket,
        arrived: Callable[[socket.socket, str], None],
        short: Callable[[str], None],
    ) -> None:
        self.sock = sock
        self._arrived, self._short = arrived, short
        self._later: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin to accept. Raises OSError."""
        # What is accepted has it too: a client that is gone without a word is found.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.sock.listen(BACKLOG)
        self._go_on()

    def stop(self) -> None:
        """Accept no more; connections wait in the socket from now on, where another process has it too."""
        self._wait_no_more()
        self._short("")
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock)

    def close(self) -> None:
        """Close the socket."""
        self.stop()
        self.sock.close()

    def _wait_no_more(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _go_on(self) -> None:
        asyncio.get_running_loop().add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        self._wait_no_more()
        for _ in range(AT_A_TIME):
            try:
                connection, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                self._short("")
                return
            except OSError as error:
                if error.errno in SHORT:
                    self._pause(error)
                # All other errors are of the one connection, which is gone (accept(2)).
                return
            connection.setblocking(False)
            self._arrived(connection, peer[0] if isinstance(peer, tuple) else "")
        # At once after what the loop has to do now, and not only when all other sockets were looked after.
        self._later = asyncio.get_running_loop().call_soon(self._accept)

    def _pause(self, error: OSError) -> None:
        """The socket would be ready again and again."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.sock)
        self._later = loop.call_later(PAUSE, self._go_on)
        self._short(os.strerror(error.errno or 0))


@dataclass(eq=False, slots=True)
class Arrival:
    """A connection that was accepted.

    Attributes:
        sock: its socket.
        context: for TLS; None: without it.
        address: that it comes from.
        key: that it is counted by; None: it is not.
        left: called when it is closed.
    """

    sock: socket.socket
    context: ssl.SSLContext | None
    address: str
    key: str | None
    left: Callable[[Arrival], None]

    @property
    def answering(self) -> bool:
        """Whether a request is here that is not answered yet: none is."""
        return False

    def give_up(self) -> None:
        """Close it now."""
        self.left(self)
        self.sock.close()


class Arrivals:
    """Accepted connections that wait to be looked after.

    Args:
        let_in: called with each one that was not closed meanwhile.
    """

    def __init__(self, let_in: Callable[[Arrival], None]) -> None:
        self._let_in = let_in
        self._turns = ByTurns(self._one, LET_IN)

    def put(self, arrival: Arrival) -> None:
        """Add a connection."""
        self._turns.put(arrival.address, arrival)

    def all(self) -> None:
        """Let all in now."""
        self._turns.all()

    def _one(self, arrival: Arrival) -> None:
        if arrival.sock.fileno() >= 0:
            self._let_in(arrival)
