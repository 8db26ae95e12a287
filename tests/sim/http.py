"""HTTP as machines speak it in a run: one request on a connection of its own, each byte held against the right one."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omaha_mirror.config import Address
from tests.sim.books import Books, Transfer
from tests.support.update_engine import BUFFER, Speed

CONNECT = 30.0
SILENCE = 90.0


class StreamLine:
    """A connection, as a pair of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._held = b""

    @classmethod
    async def dial(cls, address: Address) -> "StreamLine":
        """Connect. Raises OSError."""
        async with asyncio.timeout(CONNECT):
            return cls(*await asyncio.open_connection(address.host, address.port, limit=BUFFER))

    async def send(self, text: str) -> None:
        """Send all of it. Raises ConnectionError."""
        self._writer.write(text.encode())
        await self._writer.drain()

    async def receive(self, most: int) -> bytes:
        """What comes next, nothing at the end. Raises ConnectionError."""
        if not self._held:
            return await self._reader.read(most)
        data, self._held = self._held[:most], self._held[most:]
        return data

    def unread(self, data: bytes) -> None:
        """Give back what belongs to what comes next."""
        self._held = data + self._held

    def close(self) -> None:
        """End it."""
        self._writer.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came whole; status 0: none did."""

    status: int
    body: bytes = b""


async def ask(address: Address, method: str, path: str, body: bytes = b"") -> Answer:
    """Send a request with a small answer; gives up after `SILENCE` seconds."""
    try:
        async with asyncio.timeout(SILENCE):
            line = await StreamLine.dial(address)
            try:
                fields = f"Host: {address}\r\nContent-Length: {len(body)}\r\n"
                head = f"{method} {path} HTTP/1.1\r\n{fields}Content-Type: text/xml\r\n\r\n"
                await line.send(head + body.decode())
                return await _read(line)
            finally:
                line.close()
    except (OSError, ValueError):
        return Answer(0)


async def _read(line: StreamLine) -> Answer:
    got = bytearray()
    while b"\r\n\r\n" not in got:
        if not (data := await line.receive(BUFFER)):
            return Answer(0)
        got += data
    head, _, rest = bytes(got).partition(b"\r\n\r\n")
    status, fields = head_of(head)
    body, length = bytearray(rest), int(fields["content-length"])
    while len(body) < length:
        if not (data := await line.receive(BUFFER)):
            return Answer(0)
        body += data
    return Answer(status, bytes(body))


def head_of(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the fields of a head, names in lower case."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}


class WatchedLine:
    """A connection for one package, which notes in the books what is asked and what comes.

    Args:
        line: that it watches.
        transfer: of the books, which it fills in.
        reference: the right bytes of the whole package.
    """

    def __init__(self, line: StreamLine, transfer: Transfer, reference: bytes) -> None:
        self._line, self._transfer, self._reference = line, transfer, reference
        self._head: bytearray | None = bytearray()
        self._again = 0

    async def send(self, text: str) -> None:
        """Send a request, and note its range."""
        for field in text.split("\r\n"):
            if field.startswith("Range: "):
                self._transfer.range = field.removeprefix("Range: ")
        await self._line.send(text)

    async def receive(self, most: int) -> bytes:
        """What comes next."""
        data = await self._line.receive(most)
        if not self._again:
            self._note(data)
        self._again = max(0, self._again - len(data))
        return data

    def unread(self, data: bytes) -> None:
        """Give back what belongs to what comes next."""
        self._again += len(data)
        self._line.unread(data)

    def close(self) -> None:
        """End it."""
        self._transfer.ended = asyncio.get_running_loop().time()
        self._line.close()

    def _note(self, data: bytes) -> None:
        transfer = self._transfer
        if self._head is not None:
            self._head += data
            head, end, data = bytes(self._head).partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
            transfer.status, fields = head_of(head)
            transfer.announced = int(fields.get("content-length", "0"))
            transfer.entity = fields.get("content-range", "")
            if transfer.entity.startswith("bytes ") and not transfer.entity.startswith("bytes *"):
                transfer.first = int(transfer.entity[6:].partition("-")[0])
        if data and transfer.status in (200, 206):
            at = transfer.first + transfer.got
            right = self._reference[at : at + len(data)]
            if transfer.wrong is None and data != right:
                same = next(
                    (n for n, (a, b) in enumerate(zip(data, right, strict=False)) if a != b),
                    len(right),
                )
                transfer.wrong = at + same
            transfer.got += len(data)


@dataclass(frozen=True, slots=True)
class Dialer:
    """Connects one client to a mirror for the packages that it asks for.

    Args:
        who: the client.
        address: of the mirror.
        books: told of each connection.
    """

    who: str
    address: Address
    books: Books

    async def dial(self, path: str, reference: bytes) -> WatchedLine:
        """Connect for one request. Raises OSError."""
        line = await StreamLine.dial(self.address)
        began = asyncio.get_running_loop().time()
        transfer = Transfer(self.who, path, "", began)
        self.books.transfers.append(transfer)
        return WatchedLine(line, transfer, reference)

    async def get(
        self,
        path: str,
        reference: bytes,
        headers: Mapping[str, str],
        take: Callable[[bytes], None] = lambda _: None,
    ) -> tuple[Transfer, Mapping[str, str]]:
        """One GET, as curl sends it; `take` gets the bytes of a body as they come. Gives what came of it."""
        try:
            line = await self.dial(path, reference)
        except OSError:
            now = asyncio.get_running_loop().time()
            return Transfer(self.who, path, "", now, now), {}
        transfer = self.books.transfers[-1]
        try:
            return transfer, await _get(line, transfer, path, headers, take)
        finally:
            line.close()


async def _get(
    line: WatchedLine,
    transfer: Transfer,
    path: str,
    headers: Mapping[str, str],
    take: Callable[[bytes], None],
) -> Mapping[str, str]:
    speed, head = Speed(1.0), bytearray()
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    try:
        await line.send(f"GET {path} HTTP/1.1\r\nHost: mirror\r\nAccept: */*\r\n{fields}\r\n")
    except ConnectionError:
        return {}
    while b"\r\n\r\n" not in head:
        if not (data := await speed.buffer(line, BUFFER)):
            return {}
        head += data
    stop = head.index(b"\r\n\r\n") + 4
    line.unread(bytes(head[stop:]))
    _, found = head_of(bytes(head[:stop]))
    left = transfer.announced if transfer.status in (200, 206) else 0
    while left and (data := await speed.buffer(line, min(BUFFER, left))):
        take(data)
        left -= len(data)
    return found
