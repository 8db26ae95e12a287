"""Connections that were accepted and are not looked after yet: addresses take turns.

Accepting costs little, and what comes after it costs much more. Who opens thousands of connections waits for them;
another address, which opens one, does not.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from omaha_mirror.web.by_turns import ByTurns

AT_A_TIME = 1
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
        self._turns = ByTurns(self._one, AT_A_TIME)

    def put(self, arrival: Arrival) -> None:
        """One more."""
        self._turns.put(arrival.address, arrival)

    def all(self) -> None:
        """Let all in now."""
        self._turns.all()

    def _one(self, arrival: Arrival) -> None:
        if arrival.sock.fileno() >= 0:
            self._let_in(arrival)
