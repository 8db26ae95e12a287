"""A scripted upstream: an HTTP/1.1 server on loopback that misbehaves exactly as told, and keeps books.

It serves files from memory, correctly unless a fault is set. Faults and gates are placed at absolute
offsets in a file, so that they meet ranges as well. `bytes_sent` counts body bytes that the kernel
took, with a small send buffer, so that it says what a client can have got.

    async with Upstream() as upstream:
        upstream.put("/amd64-usr/1.2.3/update.gz", payload)
        upstream.fault("/amd64-usr/1.2.3/update.gz", Drop(at=5000, times=1))
        gate = upstream.hold("/amd64-usr/1.2.3/update.gz", at=9000)
        ...
        await gate.reached()
        gate.open()

`tests.support.threaded_upstream` has the same in a thread of its own, for tests that run the mirror as a process.
"""

import asyncio
import hashlib
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Self

from tests.support.faults import (
    Change,
    Corrupt,
    Drip,
    Drop,
    Encoding,
    Fault,
    Fin,
    Gate,
    Hangup,
    LongRange,
    Nodes,
    NoLength,
    NoRange,
    NoValidator,
    RawHead,
    Redirect,
    Script,
    Stall,
    Status,
    WrongLength,
    WrongRange,
)
from tests.support.wire import PIECE, Connection, Conversation, Cut, Line, Request

__all__ = [
    "Change",
    "Corrupt",
    "Drip",
    "Drop",
    "Encoding",
    "Fault",
    "Fin",
    "Gate",
    "Hangup",
    "LongRange",
    "NoLength",
    "NoRange",
    "NoValidator",
    "Nodes",
    "RawHead",
    "Redirect",
    "Request",
    "Stall",
    "Status",
    "Upstream",
    "WrongLength",
    "WrongRange",
]

LAST_MODIFIED = "Mon, 06 Jan 2025 10:00:00 GMT"
SEND_BUFFER = 256 * 1024


@dataclass(frozen=True, slots=True)
class File:
    body: bytes
    etag: str | None
    last_modified: str | None


Answer = Callable[[Request], bytes]


class Upstream:
    """The scripted server; an async context manager. Its methods belong to its event loop.

    Args:
        port: to listen on; 0: any.
    """

    def __init__(self, port: int = 0) -> None:
        self.keep_alive = True
        self.peak = 0
        self.log: list[Request] = []
        self._files: dict[str, File | Answer] = {}
        self._script = Script()
        self._line: Line | None = None
        self._active = 0
        self._news = asyncio.Event()
        self._port = port
        self._connections: dict[Conversation, None] = {}

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for connection in list(self._connections):
            await connection.end()

    # Files

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:port`."""
        return f"http://127.0.0.1:{self._port}"

    def url(self, path: str) -> str:
        return self.origin + path

    def put(
        self,
        path: str,
        body: bytes,
        *,
        etag: str | None = "auto",
        last_modified: str | None = LAST_MODIFIED,
        sidecar: bool = True,
    ) -> None:
        """Publish a file, and its `.sha256` unless told otherwise. Put a lie there for a lying one."""
        digest = hashlib.sha256(body).hexdigest()
        self._files[path] = File(
            body, f'"{digest[:16]}"' if etag == "auto" else etag, last_modified
        )
        if sidecar:
            line = f"{digest}  {path.rpartition('/')[2]}\n".encode()
            self.put(f"{path}.sha256", line, sidecar=False)

    def answer(self, path: str, answer: Answer) -> None:
        """Let a function make the body for each request of a path."""
        self._files[path] = answer

    def remove(self, path: str) -> None:
        """Unpublish a file and its sidecar."""
        self._files.pop(path, None)
        self._files.pop(f"{path}.sha256", None)

    # The script

    def fault(self, path: str, fault: Fault) -> None:
        """Arm a fault for a path; several add up."""
        self._script.arm(path, fault)

    def heal(self, path: str) -> None:
        """Disarm all faults of a path."""
        self._script.disarm(path)

    def hold(self, path: str, at: int | None = None) -> Gate:
        """Stop every response before byte `at` (None: before its head) until the gate is opened."""
        return self._script.gate(path, at)

    def throttle(self, rate: float | None) -> None:
        """Limit all connections together to so many body bytes a second."""
        self._line = None if rate is None else Line(rate)

    async def refuse(self) -> None:
        """Stop listening: new connections are refused, those that exist go on."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()

    async def listen(self) -> None:
        """Listen (again), on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        # A task that waits for sock_accept loses the connection that comes while it is cancelled.
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def cut_all(self) -> None:
        """Reset every connection there is."""
        for connection in list(self._connections):
            connection.reset()

    # The books

    def requests(self, path: str, method: str | None = None) -> list[Request]:
        return [r for r in self.log if r.path == path and method in (None, r.method)]

    def bytes_sent(self, path: str) -> int:
        """Body bytes of a path handed to the network so far."""
        return sum(request.sent for request in self.requests(path))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something in the books, which is asked again after each change of them."""
        while not holds():
            await self._news.wait()

    def tell(self) -> None:
        """The books have changed."""
        self._news.set()
        self._news = asyncio.Event()

    # Serving

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[Connection(sock, self._serve, self._left)] = None

    def _left(self, connection: Conversation) -> None:
        self._connections.pop(connection, None)

    async def _serve(self, connection: Conversation) -> None:
        request = await connection.request()
        self.log.append(request)
        self._active += 1
        self.peak = max(self.peak, self._active)
        self.tell()
        try:
            await self._answer(connection, request)
            request.whole = True
        finally:
            request.done = True
            self._active -= 1
            self.tell()
        if not self.keep_alive or request.headers.get("connection") == "close":
            raise Cut(reset=False)

    async def _answer(self, connection: Conversation, request: Request) -> None:
        take = partial(self._script.take, request.path, request.method)
        await self._script.pass_gates(request.path, None)
        if take(Hangup):
            raise Cut(reset=False)
        if status := take(Status):
            retry = {} if status.retry_after is None else {"Retry-After": status.retry_after}
            await self._page(connection, request, status.code, retry)
            return
        if redirect := take(Redirect):
            await self._page(connection, request, redirect.code, {"Location": redirect.location})
            return
        found = self._files.get(request.path)
        if raw := take(RawHead):
            await connection.send(raw.head)
            if isinstance(found, File) and request.method != "HEAD" and b" 2" in raw.head[:10]:
                chunked = NoLength() if b"chunked" in raw.head else None
                await self._body(connection, request, found.body, 0, len(found.body), chunked)
            raise Cut(reset=False)
        if found is None:
            await self._page(connection, request, 404, {})
            return
        file = found if isinstance(found, File) else File(found(request), None, None)
        await self._file(connection, request, file)

    async def _page(
        self, connection: Conversation, request: Request, code: int, headers: dict[str, str]
    ) -> None:
        page = f"<html><body>{code}</body></html>".encode()
        headers |= {"Content-Type": "text/html", "Content-Length": str(len(page))}
        await self._head(connection, request, code, headers)
        if request.method != "HEAD":
            await connection.send(page)

    async def _file(self, connection: Conversation, request: Request, file: File) -> None:
        take = partial(self._script.take, request.path, request.method)
        size = len(file.body)
        headers = {"Content-Type": "application/octet-stream"}
        if nodes := take(Nodes):
            number = len(self.requests(request.path)) % nodes.count
            file = File(file.body, f'"node-{number}"', None)
        if take(NoValidator):
            file = File(file.body, None, None)
        if file.etag is not None:
            headers["ETag"] = file.etag
        if file.last_modified is not None:
            headers["Last-Modified"] = file.last_modified
        if encoding := take(Encoding):
            headers["Content-Encoding"] = encoding.name
        asked = None
        if not take(NoRange):
            headers["Accept-Ranges"] = "bytes"
            asked = _asked(request, file)
        start, stop = asked if asked else (0, size)
        if asked and start >= size:
            headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            await self._head(connection, request, 416, headers)
            return
        if asked:
            if wrong := take(WrongRange):
                start, stop = start + wrong.by, min(size, stop + wrong.by)
            if longer := take(LongRange):
                stop = min(size, stop + longer.by)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        lie = take(WrongLength)
        chunked = take(NoLength)
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(stop - start + (lie.by if lie else 0))
        await self._head(connection, request, 206 if asked else 200, headers)
        if request.method != "HEAD":
            await self._body(connection, request, file.body, start, stop, chunked)
            if lie:
                raise Cut(reset=False)

    async def _head(
        self, connection: Conversation, request: Request, status: int, headers: Mapping[str, str]
    ) -> None:
        request.status = status
        fields = {"Date": formatdate(usegmt=True)} | dict(headers)
        if not self.keep_alive:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        await connection.send("\r\n".join(lines).encode())

    async def _body(
        self,
        connection: Conversation,
        request: Request,
        body: bytes,
        start: int,
        stop: int,
        chunked: NoLength | None,
    ) -> None:
        take = partial(self._script.take, request.path, request.method)
        drip = take(Drip)
        lines = [Line(drip.rate)] if drip else []
        at = start
        while at < stop:
            flip = await self._reach(connection, request, at)
            mark = self._script.next_mark(request.path, at)
            end = at + 1 if flip else min(stop, at + PIECE, mark)
            piece = bytes([body[at] ^ 0xFF]) if flip else body[at:end]
            await self._send(connection, request, piece, lines, framed=chunked is not None)
            at = end
        if chunked:
            if chunked.surplus:
                await self._send(connection, request, chunked.surplus, lines, framed=True)
            await connection.send(b"0\r\n\r\n")

    async def _send(
        self,
        connection: Conversation,
        request: Request,
        piece: bytes,
        lines: list[Line],
        *,
        framed: bool,
    ) -> None:
        if self._line is not None:
            lines = [*lines, self._line]
        step = min([PIECE, *(max(1, int(line.rate / 20)) for line in lines)])
        view = memoryview(piece)
        while part := view[:step]:
            view = view[step:]
            for line in lines:
                await line.take(len(part))
            if framed:
                await connection.send(f"{len(part):x}\r\n".encode())
            await connection.send(part, lambda count: self._count(request, count))
            if framed:
                await connection.send(b"\r\n")

    def _count(self, request: Request, count: int) -> None:
        request.sent += count
        self.tell()

    async def _reach(self, connection: Conversation, request: Request, at: int) -> bool:
        """Do what the script has for byte `at`; True if that byte is to be flipped."""
        take = partial(self._script.take, request.path, request.method)
        await self._script.pass_gates(request.path, at)
        if stall := take(Stall, at):
            await asyncio.sleep(stall.seconds)
        if change := take(Change, at):
            self.put(request.path, change.body)
            if change.drop:
                await connection.drop()
        if take(Drop, at):
            await connection.drop()
        if take(Fin, at):
            raise Cut(reset=False)
        return take(Corrupt, at) is not None


def _asked(request: Request, file: File) -> tuple[int, int] | None:
    """The half-open range asked for; None where the whole file is to be sent."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.range or "")
    if match is None or match[0] == "bytes=-":
        return None
    if_range = request.headers.get("if-range")
    if if_range is not None:
        weak = if_range.startswith("W/")
        if weak or if_range not in (file.etag, file.last_modified):
            return None
    size = len(file.body)
    if not match[1]:
        return max(0, size - int(match[2])), size
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
