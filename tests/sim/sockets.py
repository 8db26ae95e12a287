"""What the mirror and aiohttp ask of a socket, over a connection of `tests.sim.tcp`."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from tests.sim.loop import PROCESS
from tests.sim.tcp import Address, End

if TYPE_CHECKING:
    from tests.sim.net import Net


class SimSocket:
    """What code asks of a socket. Its number is none of a real one."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(
        self, net: Net, number: int, local: Address, peer: Address | None, end: End | None
    ) -> None:
        self.net, self.number, self.local, self.peer, self.end = net, number, local, peer, end
        self.process = PROCESS.get()
        self.backlog: deque[SimSocket] = deque()
        self.listens = False
        self._lingers = True
        self._open = True
        self._watcher: Callable[[], None] | None = None

    def fileno(self) -> int:
        """A number while it is open, else -1."""
        return self.number if self._open else -1

    def setblocking(self, _: bool) -> None: ...

    def getsockname(self) -> Address:
        return self.local

    def getpeername(self) -> Address | None:
        return self.peer

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if self.end is None:
            return
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._lingers = False
        elif (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF):
            self.end.room = max(self.end.room, int(value))
        elif (level, option) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT):
            self.end.user_timeout = value / 1000

    def getsockopt(self, _level: int, _option: int, size: int) -> bytes:
        """struct tcp_info, with what `omaha_mirror.web.slow_clients` reads of it."""
        info = bytearray(size)
        if self.end is not None:
            struct.pack_into("I", info, 24, int(self.end.waiting > 0))
            struct.pack_into("Q", info, 120, self.end.acknowledged)
        return bytes(info)

    def send_now(self, file: BinaryIO, offset: int, count: int) -> int:
        """Put bytes of a file into the kernel's buffer, as sendfile(2) does. Raises OSError."""
        assert self.end is not None
        return self.end.put_file(file, offset, count)

    @contextmanager
    def whenever_writable(self, call: Callable[[], object]) -> Iterator[None]:
        """Within it `call` is called when there may be space, or the connection has ended."""
        assert self.end is not None
        later = partial(self.net.loop.call_soon, call, context=copy_context())
        self.end.watchers.append(later)
        later()
        try:
            yield
        finally:
            self.end.watchers.remove(later)

    def shutdown(self, _how: int) -> None:
        """Both ways."""
        if self.end is None or self.end.error is not None:
            raise OSError(107, "Transport endpoint is not connected")
        self.end.eof = True
        self.end.end_of_output()
        self.end._wake()
        self.end.readable()

    def close(self) -> None:
        """Close it."""
        if not self._open:
            return
        self._open = False
        for waiting in self.backlog:
            waiting.close_at_once()
        if self.end is not None:
            self.end.close(at_once=not self._lingers)
        self.net.forget(self)

    def close_at_once(self) -> None:
        """Close it, and discard what it holds."""
        self._lingers = False
        self.close()

    # One that listens

    def listen(self, _backlog: int = 128) -> None:
        self.listens = True

    def accept(self) -> tuple[SimSocket, Address | None]:
        if not self._open:
            raise OSError(9, "Bad file descriptor")
        if not self.backlog:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        accepted = self.backlog.popleft()
        accepted.process = self.process
        return accepted, accepted.peer

    def watch(self, callback: Callable[..., object] | None, args: tuple[Any, ...]) -> bool:
        """Call back when there is something to accept; None: do not."""
        was, context = self._watcher is not None, copy_context()

        def call() -> None:
            self.net.loop.call_soon(self._ready, context=context)

        self._called = callback, args
        self._watcher = call if callback is not None else None
        self.arrived()
        return was

    def arrived(self) -> None:
        """Something may be here to accept."""
        if self._watcher is not None and self.backlog:
            self._watcher()

    def _ready(self) -> None:
        callback, args = self._called
        if callback is not None and self.backlog:
            callback(*args)
