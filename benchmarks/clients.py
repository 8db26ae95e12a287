"""Clients that cost little, for processes of their own: the server must be what is measured."""

import asyncio
import multiprocessing
import socket
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar

T = TypeVar("T")
HOST = "127.0.0.1"
PROCESSES = 2
STEP = 1024 * 1024
PATIENCE = 45
PACKAGE = (200, 206)
ETHERNET = 1448
"""Bytes in a segment. With loopback's 64 KiB the kernel would hold megabytes for each slow reader."""


@dataclass(frozen=True, slots=True)
class Got:
    """One download.

    Attributes:
        status: of the answer; 0 if none came.
        first: seconds to the first byte of the body.
        total: seconds to the end.
        count: bytes of the body.
        whole: whether it was a package, or the part asked for, and all came that was announced.
        crc: CRC-32 of the body, where it was looked at.
    """

    status: int
    first: float
    total: float
    count: int
    whole: bool
    crc: int = 0


class Clients:
    """Worker processes, started once. An async context manager."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"))

    async def __aenter__(self) -> Self:
        await self.run([partial(time.sleep, 0.3)] * PROCESSES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown()

    async def run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make each call in a process of its own, at the same time."""
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(self._pool, call) for call in calls))

    async def download(
        self, port: int, path: str, *, count: int = 1, seconds: float = 0, field: str = ""
    ) -> list[Got]:
        """Download with `count` clients at once; see `download`."""
        calls = [partial(download, port, path, n, seconds, field) for n in shares(count)]
        return [got for part in await self.run(calls) for got in part]

    async def read_slowly(self, port: int, path: str, *, count: int, rate: float) -> list[Got]:
        """Download with `count` clients at `rate` bytes a second each; see `read_slowly`."""
        calls = [partial(read_slowly, port, path, n, rate) for n in shares(count)]
        return [got for part in await self.run(calls) for got in part]


def shares(count: int) -> list[int]:
    """How many clients each process gets."""
    return [len(range(i, count, PROCESSES)) for i in range(min(PROCESSES, count))]


def get(port: int, path: str, field: str = "") -> bytes:
    """A request for one download; `field` is a further header field."""
    fields = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
    return "\r\n".join([*fields, *([field] if field else []), "", ""]).encode()


def head_of(data: bytes) -> tuple[int, int, bytes]:
    """Status, announced length, and what came of the body with the head."""
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    [length] = [line[15:] for line in lines if line.startswith("content-length:")]
    return int(lines[0].split(" ")[1]), int(length), rest


def download(port: int, path: str, count: int, seconds: float, field: str) -> list[Got]:
    """Download with `count` threads; with `seconds`, again and again until they are over, in mid-body too.

    The kernel throws the bodies away, a megabyte with each call.
    """
    until = time.monotonic() + seconds

    def client() -> list[Got]:
        found = [_download(port, path, field, until if seconds else None)]
        while time.monotonic() < until:
            found.append(_download(port, path, field, until))
        return found

    with ThreadPoolExecutor(count) as threads:
        futures = [threads.submit(client) for _ in range(count)]
        return [got for future in futures for got in future.result()]


def _download(port: int, path: str, field: str, until: float | None) -> Got:
    began = time.monotonic()
    status, length, got, first = 0, -1, 0, 0.0
    with socket.socket() as sock:
        # A time-out of Python's own would make the socket non-blocking, and MSG_WAITALL void.
        limit = struct.pack("ll", PATIENCE, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            sock.connect((HOST, port))
            sock.sendall(get(port, path, field))
            data = b""
            while b"\r\n\r\n" not in data and (part := sock.recv(STEP)):
                data += part
            status, length, rest = head_of(data)
            buffer, got = bytearray(STEP), len(rest)
            flags = socket.MSG_TRUNC
            while got < length and (until is None or time.monotonic() < until):
                if got:
                    first = first or time.monotonic() - began
                    flags = socket.MSG_TRUNC | socket.MSG_WAITALL
                taken = sock.recv_into(buffer, min(STEP, length - got), flags)
                if not taken:
                    break
                got += taken
        except OSError:
            pass
    total = time.monotonic() - began
    return Got(status, first or total, total, got, status in PACKAGE and got == length)


def read_slowly(port: int, path: str, count: int, rate: float) -> list[Got]:
    """Download with `count` clients of `rate` bytes a second each, over segments as on Ethernet."""

    async def clients() -> list[Got]:
        return await asyncio.gather(*(_read_slowly(port, path, rate) for _ in range(count)))

    return asyncio.run(clients())


async def _read_slowly(port: int, path: str, rate: float) -> Got:
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, length, got, first, crc = 0, -1, 0, 0.0, 0
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(sock, (HOST, port))
                await loop.sock_sendall(sock, get(port, path))
                data = b""
                while b"\r\n\r\n" not in data and (part := await loop.sock_recv(sock, 2048)):
                    data += part
                status, length, part = head_of(data)
                while got < length:
                    part = part or await loop.sock_recv(sock, int(rate / 5))
                    if not part:
                        break
                    first = first or loop.time() - began
                    crc, got, part = zlib.crc32(part, crc), got + len(part), b""
                    await asyncio.sleep(began + got / rate - loop.time())
        except OSError:  # TimeoutError is one
            pass
    total = loop.time() - began
    return Got(status, first or total, total, got, status in PACKAGE and got == length, crc)
