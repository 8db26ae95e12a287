"""Connections that were accepted and are not looked after yet: addresses take turns.

Accepting costs little, and what comes after it costs much more. Who opens thousands of connections waits for them;
another address, which opens one, does not.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

AT_A_TIME = 4
"""How many are let in before the loop does something else."""


@dataclass(eq=False, slots=True)
class Arrival:
    """A connection that was accepted.

    Attributes:
        sock: its socket.
        context: for TLS; None: without it.
        address: that it comes from.
        key: whom it counts for; None: for nobody.
        left: called when it is given up.
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
        """End it now."""
        self.left(self)
        self.sock.close()


class Arrivals:
    """Those who wait to be let in.

    Args:
        let_in: called with each one that was not given up meanwhile.
    """

    def __init__(self, let_in: Callable[[Arrival], None]) -> None:
        self._let_in = let_in
        self._waiting: OrderedDict[str, deque[Arrival]] = OrderedDict()
        self._later: asyncio.Handle | None = None

    def put(self, arrival: Arrival) -> None:
        """One more."""
        self._waiting.setdefault(arrival.address, deque()).append(arrival)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_soon(self._next)

    def all(self) -> None:
        """Let all in now."""
        while self._waiting:
            self._one()

    def _next(self) -> None:
        self._later = None
        for _ in range(AT_A_TIME):
            if not self._waiting:
                return
            self._one()
        self._later = asyncio.get_running_loop().call_soon(self._next)

    def _one(self) -> None:
        """Of the address whose turn it is, the one that came first."""
        address, waiting = next(iter(self._waiting.items()))
        arrival = waiting.popleft()
        if waiting:
            self._waiting.move_to_end(address)
        else:
            del self._waiting[address]
        if arrival.sock.fileno() >= 0:
            self._let_in(arrival)
