"""The scripted upstream's end of one connection: raw bytes, counted as the kernel takes them."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import NoReturn, Protocol

PIECE = 64 * 1024


@dataclass(slots=True)
class Request:
    """One request in the log, filled in while it is answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int | None = None
    sent: int = 0
    done: bool = False
    whole: bool = False

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class Cut(Exception):
    """End the connection now."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


@dataclass(slots=True)
class Line:
    """Spaces bytes in time: a line of `rate` bytes a second."""

    rate: float
    free_at: float = 0.0

    async def take(self, count: int) -> None:
        now = asyncio.get_running_loop().time()
        self.free_at = max(self.free_at, now) + count / self.rate
        await asyncio.sleep(self.free_at - now)


class Conversation(Protocol):
    """What the upstream needs of a connection that it has accepted."""

    async def request(self) -> Request:
        """The next request, body included."""

    async def send(
        self, data: bytes | memoryview, count: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send all; `count` learns of every part that was taken."""

    async def drop(self) -> NoReturn:
        """Reset it when what was sent has arrived."""

    def reset(self) -> None:
        """Reset it now."""

    async def end(self) -> None:
        """Close it and wait until it is gone."""


class Connection:
    """One accepted connection; it ends, and its answer with it, as soon as the client leaves."""

    def __init__(
        self,
        sock: socket.socket,
        serve: Callable[["Connection"], Awaitable[None]],
        ended: Callable[["Connection"], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._serve = serve
        self._input = asyncio.StreamReader()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())
        self._pump = asyncio.create_task(self._read())
        self._task.add_done_callback(self._closed)
        self._ended = ended

    def _closed(self, _: asyncio.Task[None]) -> None:
        self._pump.cancel()  # a task that is cancelled before it began has ended nothing itself
        self._sock.close()
        self._ended(self)

    async def end(self) -> None:
        """Close it and wait until it is gone."""
        self._task.cancel()
        await asyncio.wait([self._task, self._pump])

    def reset(self) -> None:
        """End it with RST, without waiting for anything."""
        self._linger_not()
        self._task.cancel()

    async def drop(self) -> NoReturn:
        """Reset, but only when all that was sent has arrived (or after a second without a reader)."""
        for _ in range(1000):
            if not struct.unpack("i", ioctl(self._sock, TIOCOUTQ, bytes(4)))[0]:
                break
            await asyncio.sleep(0.001)
        raise Cut(reset=True)

    async def request(self) -> Request:
        """The next request, body included."""
        head = (await self._input.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await self._input.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)

    async def send(
        self, data: bytes | memoryview, count: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send all; `count` learns of every part that the kernel has taken."""
        view = memoryview(data)
        while view:
            try:
                sent = self._sock.send(view)
            except BlockingIOError:
                await self._writable()
                continue
            view = view[sent:]
            count(sent)

    def _linger_not(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _writable(self) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(self._sock)

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            try:
                while True:
                    await self._serve(self)
            except Cut as cut:
                if cut.reset:
                    self._linger_not()
            finally:
                self._pump.cancel()
                await asyncio.wait([self._pump])

    async def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._loop.sock_recv(self._sock, PIECE):
                self._input.feed_data(data)
        self._input.feed_eof()
        self._task.cancel()
