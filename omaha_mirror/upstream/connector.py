"""Connections whose answers are read as leniently as libcurl reads them; see `head`."""

import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from omaha_mirror.upstream.chunks import Chunks
from omaha_mirror.upstream.head import END, MAX_HEAD, NotHttp, plain, status

OVERLAP = 3
"""Bytes of an empty line that may have come before the rest of it."""
_SWITCHING = 101
_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n"


class LenientConnector(aiohttp.TCPConnector):
    """A `TCPConnector` that puts heads and chunks into plain words before they are parsed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        factory: Any = functools.partial(_Handler, loop=self._loop)
        self._factory = factory


class _Handler(ResponseHandler):
    """Holds the bytes of a head back until it is whole; what follows it goes through, chunks in their strict form."""

    _head: bytearray | None = None
    _chunks: Chunks | None = None

    def set_response_params(self, **kwargs: Any) -> None:
        """Begin a request: a head comes next."""
        self._head, self._chunks = bytearray(), None
        super().set_response_params(**kwargs)

    def data_received(self, data: bytes) -> None:
        """Take what came from the server."""
        while self._head is not None and self._parser is not None and data:
            data = self._read_head(data)
        if data and self._skip_payload and self._parser is not None and self._head is None:
            # A body after the answer to a HEAD: nothing on this connection can be placed any more.
            self._leave()
        elif data or self._head is None:
            super().data_received(self._unchunked(data))
            if self._chunks is not None and self._chunks.is_broken:
                self._leave()

    def _leave(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def _unchunked(self, data: bytes) -> bytes:
        """What came of a body, for the parser."""
        if self._chunks is None:
            return data
        strict, rest = self._chunks.strict(data)
        if self._chunks.is_over:
            self._chunks = None
        return strict + rest

    def _read_head(self, data: bytes) -> bytes:
        """Give the parser a head as soon as it is whole, or is one that it is to refuse; the bytes after it."""
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
            pass  # the parser says what is wrong with it
        self._head = None
        super().data_received(whole)
        return rest
