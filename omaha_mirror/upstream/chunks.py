"""A chunked body as libcurl reads it, put into the strict form of RFC 9112, section 7.1, that every parser takes.

Lines may end without a carriage return, whatever follows a size on its line says nothing, nor do trailers
(curl/lib/http_chunks.c).
"""

import re
from enum import Enum, auto

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
    """Reads one body, and keeps nothing of it.

    Attributes:
        is_over: whether the body has ended.
        is_broken: whether it will never end, as what came is no chunk.
    """

    def __init__(self) -> None:
        self.is_over = self.is_broken = False
        self._next = _Next.SIZE
        self._digits = b""
        self._left = 0
        self._is_empty_line = True

    def strict(self, data: bytes) -> tuple[bytes, bytes]:
        """What came in the strict form, as one chunk; and what lies behind the body."""
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
        """Read on from `at` to what is next; where that begins. Raises ValueError."""
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
        """Pass by what is left of a line: after a size, or of the trailers, which an empty one ends."""
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
