"""update_engine as it downloads: its two fetchers, with their limits, and what makes it abort.

libcurl_http_fetcher.cc: one transfer is tried 21 times, and goes on from the byte where it was cut; a status ends it.
multi_range_http_fetcher.cc: a resume is two transfers, the metadata and then the rest; each is ended from this side when
it has what it lacks, and one more buffer after that trips a CHECK: the daemon is gone.
payload_processor.cc: on a resume the metadata are read again, and not hashed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

BUFFER = 16 * 1024
"""Bytes that libcurl hands on at a time (CURL_MAX_WRITE_SIZE)."""
RETRIES = 20
RETRY_SECONDS = 20.0
LOW_SPEED = 10.0
LOW_SPEED_SECONDS = 90.0
"""With fewer than `LOW_SPEED` bytes a second for so long, a connection counts as dead."""
LINGER = 0.2
"""Seconds in which a buffer beyond the asked ones may still come before the connection is closed."""


class Line(Protocol):
    """A connection to the mirror."""

    async def send(self, text: str) -> None:
        """Send all of it. Raises ConnectionError."""

    async def receive(self, most: int) -> bytes:
        """What comes next, nothing at the end. Raises ConnectionError."""

    def unread(self, data: bytes) -> None:
        """Give back what belongs to what comes next."""

    def close(self) -> None:
        """End it."""


class Aborted(Exception):
    """The daemon is gone: `Check failed: !pending_transfer_ended_`."""


class Failed(Exception):
    """The attempt ends; the next one comes with the next poll. The number is that of the error event.

    9: transfer failed, progress is kept. 11: the size is another one, and a backoff of a day follows.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"error {code}: {why}")
        self.code = code


@dataclass(slots=True)
class Transfer:
    """One file, or a part of it.

    Attributes:
        offset: of its first byte.
        length: how many bytes are wanted; None: up to the end.
        got: those that came.
        ranges: what was asked for, in turn.
    """

    offset: int
    length: int | None
    got: bytearray = field(default_factory=bytearray)
    ranges: list[str] = field(default_factory=list)

    @property
    def range(self) -> str:
        """The Range field: after a cut it begins later, and its length stays."""
        first = self.offset + len(self.got)
        if self.length is not None:
            return f"bytes={first}-{first + self.length - 1}"
        return f"bytes={first}-" if first else ""

    @property
    def is_whole(self) -> bool:
        return self.length is not None and len(self.got) >= self.length


@dataclass(frozen=True, slots=True)
class UpdateEngine:
    """A machine that downloads one package.

    Attributes:
        dial: connects to the mirror. Raises OSError.
        path: of the package.
        size: of the package, as Omaha told it.
        scale: of its patience: 1 is the real one.
        haste: of its pauses between two tries, likewise.
        watch: told of a transfer before each try.
    """

    dial: Callable[[], Awaitable[Line]]
    path: str
    size: int
    scale: float = 0.5
    haste: float = 0.001
    watch: Callable[[Transfer], None] = lambda _: None

    async def first(self) -> bytes:
        """Download all of it. Raises Failed, Aborted."""
        got = await self.transfer(Transfer(0, None))
        if len(got) != self.size:
            raise Failed(11, f"{len(got)} bytes instead of {self.size}")
        return got

    async def resume(self, metadata_size: int, offset: int) -> tuple[bytes, bytes]:
        """Go on at `offset`: the metadata, which nobody hashes, and the rest. Raises Failed, Aborted."""
        return await self.metadata(metadata_size), await self.rest(offset)

    async def metadata(self, metadata_size: int) -> bytes:
        """The first transfer of a resume. Raises Failed, Aborted."""
        return await self.transfer(Transfer(0, metadata_size))

    async def rest(self, offset: int) -> bytes:
        """The second one. Raises Failed, Aborted."""
        rest = await self.transfer(Transfer(offset, None))
        if offset + len(rest) != self.size:
            raise Failed(11, f"{offset + len(rest)} bytes instead of {self.size}")
        return rest

    async def transfer(self, transfer: Transfer) -> bytes:
        """One transfer, tried again where it is cut. Raises Failed, Aborted."""
        for attempt in range(1 + RETRIES):
            if attempt:
                await asyncio.sleep(RETRY_SECONDS * self.haste)
            if await self._attempt(transfer, is_first=not attempt):
                if transfer.length is not None and not transfer.is_whole:
                    raise Failed(9, "the answer ended before its range did")
                return bytes(transfer.got)
        raise Failed(9, f"{RETRIES} retries were cut")

    async def _attempt(self, transfer: Transfer, *, is_first: bool) -> bool:
        """Whether that was all."""
        transfer.ranges.append(transfer.range)
        self.watch(transfer)
        try:
            line = await self.dial()
        except OSError as error:
            if is_first:
                raise Failed(9, "no connection") from error
            return False
        try:
            return await self._talk(line, transfer, is_first=is_first)
        finally:
            line.close()

    async def _talk(self, line: Line, transfer: Transfer, *, is_first: bool) -> bool:
        fields = f"Range: {transfer.range}\r\n" if transfer.range else ""
        head, speed = bytearray(), Speed(self.scale)
        with contextlib.suppress(ConnectionError):
            await line.send(
                f"GET {self.path} HTTP/1.1\r\nHost: mirror\r\nAccept: */*\r\n{fields}\r\n"
            )
        while b"\r\n\r\n" not in head:
            data = await speed.buffer(line, BUFFER)
            if not data:
                if is_first:
                    raise Failed(9, "no answer")
                return False
            head += data
        stop = head.index(b"\r\n\r\n") + 4
        line.unread(bytes(head[stop:]))
        del head[stop:]
        lines = head.decode("latin-1").split("\r\n")
        if (status := int(lines[0].split()[1])) not in (200, 206):
            raise Failed(9, f"status {status}")
        lengths = [
            line.split(":")[1] for line in lines if line.lower().startswith("content-length:")
        ]
        return await self._body(line, transfer, int(lengths[0]) if lengths else None)

    async def _body(self, line: Line, transfer: Transfer, announced: int | None) -> bool:
        received, speed = 0, Speed(self.scale)
        while announced is None or received < announced:
            most = BUFFER if announced is None else min(BUFFER, announced - received)
            data = await speed.buffer(line, most)
            if not data:
                # Without a byte, or a length, an answer that ends is taken for a complete one.
                return announced is None or received == 0
            received += len(data)
            lacking = len(data) if transfer.length is None else transfer.length - len(transfer.got)
            transfer.got += data[:lacking]
            if transfer.is_whole:
                await self._end(line, is_all=received == announced)
                return True
        return True

    async def _end(self, line: Line, *, is_all: bool) -> None:
        """Close the connection, unless one more buffer comes first."""
        if is_all:
            return
        try:
            async with asyncio.timeout(LINGER):
                data = await line.receive(BUFFER)
        except (TimeoutError, ConnectionError):
            return
        if data:
            raise Aborted


class Speed:
    """Ends a connection that is too slow for too long (CURLOPT_LOW_SPEED_LIMIT, CURLOPT_LOW_SPEED_TIME).

    Args:
        scale: of the patience.
    """

    def __init__(self, scale: float) -> None:
        self._seconds = LOW_SPEED_SECONDS * scale
        self._since = asyncio.get_running_loop().time()
        self._count = 0

    async def buffer(self, line: Line, most: int) -> bytes:
        """What comes next; nothing where the connection ended, or counts as dead."""
        try:
            async with asyncio.timeout_at(self._since + self._seconds):
                data = await line.receive(most)
        except (TimeoutError, ConnectionError):
            return b""
        self._count += len(data)
        now = asyncio.get_running_loop().time()
        if self._count >= LOW_SPEED * (now - self._since):
            self._since, self._count = now, 0
        return data
