"""The Range header field (RFC 9110, section 14), for one byte range at a time.

A range that cannot be read, of another unit, or one of several, may be ignored (sections 14.2 and
14.1.1): the answer is then the whole file. Only a readable single range with no byte in the file is
unsatisfiable.
"""

import re
from dataclasses import dataclass, field

_RANGES = re.compile(r"bytes=(.+)", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
# Positions beyond any file are all alike; it also bounds the digits that are turned into a number.
_FAR = 10**18


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole file is to be sent, with status 200."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`, with status 206.

    Attributes:
        asked: where the range ends as it was asked for, be it beyond the end; None: with the file, wherever that ends.
    """

    start: int
    stop: int
    asked: int | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """Number of bytes, at least one."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The Content-Range field for a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """None of the bytes asked for exist: status 416."""

    def content_range(self, size: int) -> str:
        """The Content-Range field for a file of `size` bytes."""
        return f"bytes */{size}"


def parse_range(header: str | None, size: int) -> Whole | ByteRange | Unsatisfiable:
    """What a Range field asks of a file.

    Args:
        header: The field's value, None if there is none.
        size: The file's size in bytes.
    """
    ranges = _RANGES.fullmatch(header or "")
    if ranges is None:
        return Whole()
    # A list may have empty elements (section 5.6.1.2).
    wanted = [element for part in ranges[1].split(",") if (element := part.strip(" \t"))]
    match = _RANGE.fullmatch(wanted[0]) if len(wanted) == 1 else None
    if match is None or match[0] == "-":
        return Whole()
    first, last = _position(match[1]), _position(match[2])
    if first is None:
        return _suffix(last or 0, size)
    if last is not None and last < first:
        return Whole()
    if first >= size:
        return Unsatisfiable()
    if last is None:
        return ByteRange(first, size)
    return ByteRange(first, min(last + 1, size), last + 1)


def _suffix(length: int, size: int) -> Whole | ByteRange | Unsatisfiable:
    """The last `length` bytes. Of an empty file they are nothing, which no Content-Range can say."""
    if length == 0:
        return Unsatisfiable()
    return ByteRange(max(0, size - length), size) if size else Whole()


def _position(digits: str) -> int | None:
    if not digits:
        return None
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= 18 else _FAR
