"""TCP as the kernels of two machines do it: bytes wait in buffers, travel in segments, and arrive in order or not at all."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import ETIMEDOUT
from typing import TYPE_CHECKING, BinaryIO

from tests.sim.loop import NOBODY

if TYPE_CHECKING:
    from tests.sim.net import Net
    from tests.sim.transport import SimTransport

LASTING = 924.6
"""Seconds after which Linux gives a connection up that gets no acknowledgement (tcp_retries2)."""
Address = tuple[str, int]


@dataclass(eq=False)
class Link:
    """The line between two machines.

    Attributes:
        latency: seconds.
        rate: bytes a second in one direction of one connection.
        segment: most bytes that arrive together.
        buffer: bytes that a kernel holds on each side of a connection.
        refuses: no new connection is accepted, for now.
        lost: what asks for a new connection gets no answer, for now.
    """

    latency: float = 0.001
    rate: float = 100e6
    segment: int = 64 * 1024
    buffer: int = 128 * 1024
    refuses: bool = False
    lost: bool = False
    _stalled: bool = False
    ends: dict[int, End] = field(default_factory=dict)

    @property
    def stalled(self) -> bool:
        """Whether nothing comes through, and nobody is told."""
        return self._stalled

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        self._stalled = stalled
        if not stalled:
            for end in list(self.ends.values()):
                end.pump()


class End:
    """One side of a connection."""

    peer: End

    def __init__(self, net: Net, link: Link, rng: random.Random, number: int) -> None:
        self.net, self.link, self.rng, self.number = net, link, rng, number
        self.transport: SimTransport | None = None
        self.out: deque[tuple[float, bytes]] = deque()
        self.waiting = 0
        self.inbox = bytearray()
        self.room = link.buffer
        self.acknowledged = 0
        self.fin_to_send = self.fin_sent = self.eof = self.closed = False
        self.error: OSError | None = None
        self.user_timeout = LASTING
        self._arrives = 0.0
        self._travelling = False
        self.watchers: list[Callable[[], object]] = []
        link.ends[number] = self

    def space(self) -> int:
        """Bytes that can be put in now."""
        return max(0, self.room - self.waiting)

    def put(self, data: bytes) -> int:
        """Take what there is space for; how much. Raises OSError."""
        if self.error is not None:
            raise self.error
        if self.fin_to_send:
            raise BrokenPipeError(32, "Broken pipe")
        taken = data[: self.space()]
        if taken:
            self.out.append((self.net.loop.time(), bytes(taken)))
            self.waiting += len(taken)
            self.pump()
        return len(taken)

    def put_file(self, file: BinaryIO, offset: int, count: int) -> int:
        """The same with bytes of a file. Raises OSError, BlockingIOError where there is no space."""
        space = self.space()
        if self.error is None and not self.fin_to_send and space == 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return self.put(os.pread(file.fileno(), min(count, space), offset))

    def pump(self) -> None:
        """Have the next segment travel."""
        if self._travelling or self.error is not None or not (self.out or self._fin_is_next()):
            return
        loop, since = self.net.loop, self.out[0][0] if self.out else self.net.loop.time()
        if self.link.stalled:
            self._travelling = True
            loop.call_later(
                self.user_timeout, self._give_up, self.acknowledged, context=NOBODY.copy()
            )
            self._travelling = False
            return
        full = self.rng.random() < 0.5
        count = min(
            self.waiting, self.link.segment if full else self.rng.randint(1, self.link.segment)
        )
        self._arrives = (
            max(self._arrives, since + self.link.latency, loop.time()) + count / self.link.rate
        )
        self._travelling = True
        loop.call_at(self._arrives, self._arrive, count, context=NOBODY.copy())

    def _fin_is_next(self) -> bool:
        return self.fin_to_send and not self.fin_sent and not self.out

    def _give_up(self, acknowledged: int) -> None:
        if self.acknowledged == acknowledged and self.link.stalled and self.waiting:
            self.fail(TimeoutError(ETIMEDOUT, "Connection timed out"))

    def _arrive(self, count: int) -> None:
        self._travelling = False
        peer = self.peer
        if self.link.stalled or self.error is not None:
            self.pump()
            return
        if peer.closed:
            self.net.loop.call_later(self.link.latency, self.fail, _reset(), context=NOBODY.copy())
            return
        if not self.out:
            if self._fin_is_next():
                self.fin_sent = peer.eof = True
                peer.readable()
            return
        if len(peer.inbox) + count > peer.room:  # the window is closed: whoever reads opens it
            count = peer.room - len(peer.inbox)
        if count > 0:
            peer.inbox += self._take(count)
            self.acknowledged += count
            peer.readable()
            self._wake()
            self.pump()

    def _take(self, count: int) -> bytes:
        parts, self.waiting = [], self.waiting - count
        while count:
            since, piece = self.out.popleft()
            if len(piece) > count:
                self.out.appendleft((since, piece[count:]))
                piece = piece[:count]
            parts.append(piece)
            count -= len(piece)
        return b"".join(parts)

    def _wake(self) -> None:
        for call in self.watchers:
            call()
        if self.transport is not None:
            self.transport.on_space()

    def read(self, count: int) -> bytes:
        """Take what has arrived, at most so much."""
        data = bytes(self.inbox[:count])
        del self.inbox[:count]
        self.peer.pump()
        return data

    def readable(self) -> None:
        """Tell whoever reads."""
        if self.transport is not None:
            self.transport.on_readable()

    def end_of_output(self) -> None:
        """Nothing more is put in; the other side learns it after all that was."""
        self.fin_to_send = True
        self.pump()

    def close(self, *, at_once: bool = False) -> None:
        """Close it: what waits still travels, unless bytes were not read, or it is to end at once."""
        if self.closed:
            return
        self.closed = True
        self.transport = None
        if at_once or self.inbox:
            self.out.clear()
            self.waiting = 0
            if not self.peer.closed:
                self.net.loop.call_later(
                    self.link.latency, self.peer.fail, _reset(), context=NOBODY.copy()
                )
            self.error = self.error or _reset()
        elif self.error is None:
            self.end_of_output()

    def fail(self, error: OSError) -> None:
        """The connection is broken."""
        if self.error is None:
            self.error = error
            self.out.clear()
            self.inbox.clear()
            self.waiting = 0
            self._wake()
            self.readable()


def _reset() -> OSError:
    return ConnectionResetError(104, "Connection reset by peer")
