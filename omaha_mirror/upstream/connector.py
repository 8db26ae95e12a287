"""Connections whose answers are read as leniently as libcurl reads them: heads by `head`, chunks here.

A chunked body is put into the strict form of RFC 9112, section 7.1, that every parser accepts. As in libcurl
(curl/lib/http_chunks.c), a line may end without a carriage return, and what follows a size on its line is ignored, as
trailers are.
"""

import functools
import re
from enum import Enum, auto
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from omaha_mirror.upstream.head import END, MAX_HEAD, NotHttp, plain, status
from omaha_mirror.upstream.received import AT_ONCE, Received

OVERLAP = 3
"""Bytes of an empty line that an earlier piece may end with."""
_SWITCHING = 101
_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
MAX_DIGITS = 16
_BEYOND_HEX = re.compile(rb"[^0-9A-Fa-f]")


class _Next(Enum):
    SIZE = auto()
    END_OF_LINE = auto()
    DATA = auto()
    AFTER_DATA = auto()
    TRAILER = auto()
    NOTHING = auto()


class Chunks:
    """Converts one chunked body, and stores nothing of it.

    Attributes:
        is_over: whether the body has ended.
        is_broken: whether the bytes are no chunks, so that the body never ends.
    """

    def __init__(self) -> None:
        self.is_over = self.is_broken = False
        self._next = _Next.SIZE
        self._digits = b""
        self._left = 0
        self._is_empty_line = True

    def strict(self, data: bytes) -> tuple[bytes, bytes]:
        """The data as one chunk in the strict form, and the bytes after the body."""
        pieces: list[bytes] = []
        at = 0
        try:
            while at < len(data) and self._next is not _Next.NOTHING:
                at = self._read(data, at, pieces)
        except ValueError:
            self.is_broken = True
        self.is_over = self._next is _Next.NOTHING
        body = b"".join(pieces)
        chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        return (chunk + LAST, data[at:]) if self.is_over else (chunk, b"")

    def _read(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Read the next part from `at` on; gives the position after it. Raises ValueError."""
        match self._next:
            case _Next.SIZE:
                return self._read_size(data, at)
            case _Next.DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                self._next = _Next.DATA if self._left else _Next.AFTER_DATA
                return at + len(piece)
            case _Next.AFTER_DATA:
                if data[at] not in b"\r\n":
                    raise ValueError("a chunk is longer than its size")
                if data[at] == ord("\n"):
                    self._next, self._digits = _Next.SIZE, b""
                return at + 1
            case _:
                return self._read_line(data, at)

    def _read_size(self, data: bytes, at: int) -> int:
        found = _BEYOND_HEX.search(data, at)
        stop = len(data) if found is None else found.start()
        self._digits += data[at:stop]
        if len(self._digits) > MAX_DIGITS:
            raise ValueError("a chunk without end")
        if found is not None:
            self._left = int(self._digits, 16)
            self._next = _Next.END_OF_LINE
        return stop

    def _read_line(self, data: bytes, at: int) -> int:
        """Skip the rest of a line: after a size, or of the trailers, which an empty line ends."""
        feed = data.find(b"\n", at)
        stop = len(data) if feed < 0 else feed
        if data[at:stop].strip(b"\r"):
            self._is_empty_line = False
        if feed < 0:
            return stop
        if self._next is _Next.END_OF_LINE:
            self._next = _Next.DATA if self._left else _Next.TRAILER
        elif self._is_empty_line:
            self._next = _Next.NOTHING
        self._is_empty_line = True
        return stop + 1


def body_of(response: aiohttp.ClientResponse) -> aiohttp.StreamReader | Received:
    """What gives the bytes of a body."""
    content, connection = response.content, response.connection
    length = response.headers.get("Content-Length")
    is_over = content.is_eof() or content.exception() is not None
    if length is None or connection is None or connection.transport is None or is_over:
        return content
    return cast(_Handler, connection.protocol).past_parser(content, int(length))


class LenientConnector(aiohttp.TCPConnector):
    """A `TCPConnector` that converts heads and chunks to their strict form before they are parsed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        factory: Any = functools.partial(_Handler, loop=self._loop)
        self._factory = factory


class _Handler(ResponseHandler):
    """Collects the bytes of a head until it is complete, and passes on the body, chunks in their strict form."""

    _head: bytearray | None = None
    _chunks: Chunks | None = None
    _received: Received | None = None

    def set_response_params(self, **kwargs: Any) -> None:
        """Begin a request: a head comes next."""
        self._head, self._chunks = bytearray(), None
        super().set_response_params(**kwargs)

    def data_received(self, data: bytes) -> None:
        """Process bytes from the server."""
        if self._received is not None and data:
            if len(data) > self._received.left:
                self.force_close()
            self._received.feed(data[: self._received.left])
            return
        while self._head is not None and self._parser is not None and data:
            data = self._read_head(data)
        if data and self._skip_payload and self._parser is not None and self._head is None:
            # A body after the response to a HEAD: later bytes cannot be assigned to a response.
            self._disconnect()
        elif data or self._head is None:
            super().data_received(self._unchunked(data))
            if self._chunks is not None and self._chunks.is_broken:
                self._disconnect()

    def past_parser(self, content: aiohttp.StreamReader, length: int) -> Received:
        """What gives the bytes of a body whose head was parsed: those that the parser has passed on, and all others."""
        transport: Any = self.transport
        transport.max_size = AT_ONCE

        def is_whole() -> None:
            self._received = None
            content.feed_eof()  # the connection can be used again

        come = list(iter(content.read_nowait, b""))
        self._received = received = Received(transport, length, is_whole)
        for piece in come:
            received.feed(piece)
        return received

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever reads the body, too."""
        if self._received is not None:
            self._received.lost(exc)
        super().connection_lost(exc)

    def _disconnect(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def _unchunked(self, data: bytes) -> bytes:
        """Bytes of a body, for the parser."""
        if self._chunks is None:
            return data
        strict, rest = self._chunks.strict(data)
        if self._chunks.is_over:
            self._chunks = None
        return strict + rest

    def _read_head(self, data: bytes) -> bytes:
        """Pass a head to the parser when it is complete or invalid; gives the bytes after it."""
        head = self._head or bytearray()
        known = max(0, len(head) - OVERLAP)
        head += data if head else data.lstrip(b"\r\n")
        end = END.search(head, known)
        if end is None and len(head) <= MAX_HEAD and b"HTTP".startswith(head[:4].upper()):
            self._head = head
            return b""
        stop = end.end() if end is not None else len(head)
        whole, rest = bytes(head[:stop]), bytes(head[stop:])
        try:
            if 100 <= (code := status(whole)) < 200 and code != _SWITCHING:
                self._head = bytearray()
                return rest
            whole = plain(whole)
            self._chunks = Chunks() if _CHUNKED in whole else None
        except NotHttp:
            pass  # the parser reports the fault
        self._head = None
        super().data_received(whole)
        return rest
