"""What HTTP says of conditional requests and of ranges (RFC 9110, sections 8.8, 13 and 14). No I/O.

A range that cannot be read, of another unit, or one of several, may be ignored (sections 14.2 and
14.1.1): the answer is then the whole file. Only a readable single range with no byte in the file is
unsatisfiable.

`headers` is any mapping whose `get` finds field names as spelled here; one that ignores case, such as
multidict's, finds what every client sends. A last-modified time given to these functions must be
strong (section 8.8.2.2): the file was not changed twice within that second.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RANGES = re.compile(r"bytes=(.+)", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_FAR = 10**18
"""Positions beyond any file are all alike; it also bounds the digits that are turned into a number."""
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"\x00-\x20\x7f]*"')
_LIST_ELEMENT = re.compile(rf"[ \t]*(?:({_ENTITY_TAG.pattern})[ \t]*)?(?:,|\Z)")
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_HTTP_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, [0-9]{{2}} [A-Z][a-z]{{2}} [0-9]{{4}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{5,8}}, [0-9]{{2}}-[A-Z][a-z]{{2}}-[0-9]{{2}} {_TIME} GMT"
    rf"|[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [ 0-9][0-9] {_TIME} [0-9]{{4}}"
)
"""Section 5.6.7: the form in use, and the two obsolete ones."""


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


class Precondition(enum.Enum):
    """What the conditions of a request come to."""

    PROCEED = enum.auto()
    """Carry it out."""
    NOT_MODIFIED = enum.auto()
    """Answer 304: the client has it."""
    PRECONDITION_FAILED = enum.auto()
    """Answer 412."""


def evaluate(
    method: str, headers: Mapping[str, str], *, etag: str | None, last_modified: float | None
) -> Precondition:
    """All conditions but If-Range, in the order of section 13.2.2, for a file that exists.

    Args:
        method: The request's method.
        headers: The request's header fields.
        etag: The file's entity tag, quotes included.
        last_modified: When it was changed last, in seconds since the epoch.
    """
    if_match = headers.get("If-Match")
    if if_match is not None:
        if not _any_matches(if_match, etag, weakly=False):
            return Precondition.PRECONDITION_FAILED
    elif last_modified is not None:
        unmodified_since = headers.get("If-Unmodified-Since")
        if unmodified_since is not None and _modified_since(unmodified_since, last_modified):
            return Precondition.PRECONDITION_FAILED

    reading = method in ("GET", "HEAD")
    if_none_match = headers.get("If-None-Match")
    if if_none_match is not None:
        if _any_matches(if_none_match, etag, weakly=True):
            return Precondition.NOT_MODIFIED if reading else Precondition.PRECONDITION_FAILED
    elif reading and last_modified is not None:
        since = headers.get("If-Modified-Since")
        if since is not None and _modified_since(since, last_modified) is False:
            return Precondition.NOT_MODIFIED
    return Precondition.PROCEED


def if_range_holds(
    if_range: str | None, *, etag: str | None, last_modified: float | None = None
) -> bool:
    """Whether a Range is to be honoured (section 13.1.5): no If-Range, or one that fits exactly."""
    if if_range is None:
        return True
    if _ENTITY_TAG.fullmatch(if_range):
        return _matches(if_range, etag, weakly=False)
    date = http_date(if_range)
    return date is not None and last_modified is not None and date == int(last_modified)


def select(
    headers: Mapping[str, str],
    *,
    size: int,
    etag: str | None,
    last_modified: float | None = None,
) -> Whole | ByteRange | Unsatisfiable:
    """Which bytes a GET that may proceed is answered with.

    Args:
        headers: The request's header fields.
        size: The file's size in bytes.
        etag: The file's entity tag, quotes included.
        last_modified: When it was changed last, in seconds since the epoch.
    """
    if if_range_holds(headers.get("If-Range"), etag=etag, last_modified=last_modified):
        return parse_range(headers.get("Range"), size)
    return Whole()


def http_date(text: str) -> int | None:
    """An HTTP-date in seconds since the epoch; None if it is none, or no date of the calendar."""
    if not _HTTP_DATE.fullmatch(text):
        return None
    try:
        when: datetime = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return int(when.replace(tzinfo=UTC).timestamp())


def _modified_since(date_field: str, last_modified: float) -> bool | None:
    """Whether the file is newer than a date; None if the condition is to be ignored."""
    date = http_date(date_field)
    return None if date is None else int(last_modified) > date


def _any_matches(field: str, etag: str | None, *, weakly: bool) -> bool:
    """Whether `*` or one of a list of entity tags fits; a list that cannot be read fits nothing."""
    if field.strip(" \t") == "*":
        return True
    tags: list[str] = []
    at = 0
    while at < len(field):
        element = _LIST_ELEMENT.match(field, at)
        if element is None:
            return False
        tags.append(element[1] or "")
        at = element.end()
    return any(_matches(tag, etag, weakly=weakly) for tag in tags)


def _matches(tag: str, etag: str | None, *, weakly: bool) -> bool:
    """Section 8.8.3.2: weak comparison ignores `W/`, strong comparison refuses it."""
    if etag is None:
        return False
    if weakly:
        return tag.removeprefix("W/") == etag.removeprefix("W/")
    return tag == etag and not tag.startswith("W/")
