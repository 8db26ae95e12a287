"""A client that sees raw bytes: it sends what a test says, and reads no more than it is told to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from omaha_mirror.config import Address

PATIENCE = 60.0
"""Seconds after which a test that waits for bytes has failed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def length(self) -> int:
        return int(self.headers["content-length"])

    @property
    def line(self) -> str:
        """The body, which must be one plain line for people."""
        text = self.body.decode()
        assert self.headers["content-type"].startswith("text/plain")
        assert text.endswith("\n")
        assert text[:-1].isprintable(), text
        assert "<html" not in text.lower()
        return text[:-1]


class Talk:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._held = b""

    @classmethod
    async def dial(
        cls, address: Address, *, source: str = "127.0.0.1", buffer: int | None = None
    ) -> Self:
        """Connect, from an address of one's own and with a receive buffer of one's own."""
        sock = socket.socket()
        sock.setblocking(False)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, (address.host, address.port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    async def send(self, *data: bytes | str) -> None:
        for part in data:
            await self._loop.sock_sendall(
                self.sock, part.encode() if isinstance(part, str) else part
            )

    async def some(self) -> bytes:
        """What comes next; nothing at the end, which a reset is too."""
        if self._held:
            held, self._held = self._held, b""
            return held
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._receive(256 * 1024)
        except ConnectionResetError:
            return b""

    async def receive(self, most: int) -> bytes:
        """What comes next, so many bytes at most; nothing at the end. Raises ConnectionError."""
        if not self._held:
            return await self._receive(most)
        data, self._held = self._held[:most], self._held[most:]
        return data

    async def _receive(self, most: int) -> bytes:
        # While there is data, sock_recv lets nothing else run, the upstream of the same loop included.
        await asyncio.sleep(0)
        return await self._loop.sock_recv(self.sock, most)

    def unread(self, data: bytes) -> None:
        self._held = data + self._held

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes; fewer only if the connection ends."""
        got = bytearray()
        while len(got) < count and (data := await self.some()):
            got += data
        self.unread(bytes(got[count:]))
        return bytes(got[:count])

    async def rest(self) -> bytes:
        """All until the connection ends."""
        got = bytearray()
        while data := await self.some():
            got += data
        return bytes(got)

    async def head(self) -> Answer:
        """A status line and headers; the body stays to be read."""
        got = bytearray()
        while b"\r\n\r\n" not in got:
            data = await self.some()
            assert data, f"the connection ended after {bytes(got)!r}"
            got += data
        head, _, self._held = bytes(got).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return Answer(int(first.split(" ")[1]), headers)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """A whole response: as many bytes as it announces, or as come before the end."""
        head = await self.head()
        count = 0 if bodiless or head.status in (204, 304) else head.length
        return Answer(head.status, head.headers, await self.read(count))

    def arrived(self) -> bytes:
        """What is here and was not read, without waiting for more."""
        try:
            return self._held + self.sock.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._held


@asynccontextmanager
async def dial(
    address: Address, *, source: str = "127.0.0.1", buffer: int | None = None
) -> AsyncIterator[Talk]:
    """See `Talk.dial`; the connection is closed at the end."""
    talk = await Talk.dial(address, source=source, buffer=buffer)
    try:
        yield talk
    finally:
        talk.close()


def request(
    method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """A plain HTTP/1.1 request with a Host."""
    fields = {"Host": "mirror.test:8000", **(headers or {})}
    if method == "POST":
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


async def ask(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own."""
    async with dial(address) as talk:
        await talk.send(request(method, path, headers, body))
        return await talk.answer(bodiless=method == "HEAD")
