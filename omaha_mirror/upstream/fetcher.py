"""The port through which everything from outside comes: every read has a size limit and a deadline.

An implementation raises `omaha_mirror.upstream.errors.UpstreamError` and nothing else of its own,
from the call, on entering `stream`, and while its chunks are read. Cancelling any of them closes the
connection at once.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

# RFC 9110 8.8.2.2: Last-Modified is strong when it is clearly older than the answer that carries it.
STRONG_AGE = 60.0


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells one generation of a file from another (RFC 9110, section 8.8).

    Attributes:
        etag: The ETag field as sent, quotes and `W/` included.
        last_modified: The Last-Modified field as sent.
        date: The Date field of the same answer.
    """

    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Validator":
        """The validator that a response's (case-insensitive) header fields carry."""
        return cls(headers.get("ETag"), headers.get("Last-Modified"), headers.get("Date"))

    @property
    def strong(self) -> str | None:
        """What may go into If-Range: a strong ETag, else a Last-Modified that is surely strong."""
        if self.etag is not None:
            quoted = len(self.etag) >= 2 and self.etag[0] == self.etag[-1] == '"'
            return self.etag if quoted else None
        modified, date = seconds(self.last_modified), seconds(self.date)
        if modified is None or date is None or date - modified < STRONG_AGE:
            return None
        return self.last_modified

    def same(self, other: "Validator") -> bool:
        """Whether nothing says that these are two generations.

        It is no proof that they are one: servers without validators exist. Where the validator is
        the only proof there is, compare `strong` as well.
        """
        if self.etag is not None and other.etag is not None:
            return self.etag.removeprefix("W/") == other.etag.removeprefix("W/")
        if self.last_modified is not None and other.last_modified is not None:
            return self.last_modified == other.last_modified
        return True


@dataclass(frozen=True, slots=True)
class Head:
    """What a HEAD request told.

    Attributes:
        url: Where the file was found, redirects followed.
        size: Content-Length in bytes, if announced.
        validator: Of this generation.
    """

    url: str
    size: int | None
    validator: Validator


class Body(Protocol):
    """One answer on its way: bytes `start` to at most `stop` of a file."""

    @property
    def url(self) -> str:
        """Where the bytes come from, redirects followed."""

    @property
    def start(self) -> int:
        """Offset in the file of the first byte that `chunks` delivers: the one asked for."""

    @property
    def stop(self) -> int:
        """Offset after the last byte that `chunks` delivers when all goes well."""

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""

    @property
    def validator(self) -> Validator:
        """Of the generation that these bytes belong to."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, in order, none empty, none at or after `stop`.

        It ends only when all bytes up to `stop` were delivered.

        Raises:
            Stalled: No byte came for the stall deadline. The connection is still open: call `chunks`
                again to wait on, from the byte where this one ended.
            Dropped: The connection died, or the body ended early.
            TooLarge: The server sent more than it announced.
        """


class Fetcher(Protocol):
    """How the mirror reads from upstream servers."""

    async def small(self, url: str, *, limit: int, deadline: float, judged: bool = False) -> bytes:
        """A whole small file of at most `limit` bytes, within `deadline` seconds.

        `judged` says that the caller tells by the bytes whether they are right: no label counts.
        """

    async def post(self, url: str, body: bytes, *, limit: int, deadline: float) -> bytes:
        """Send XML; the whole answer of at most `limit` bytes, within `deadline` seconds.

        A server that got `body` may have acted on it, so it goes over a connection of its own, which
        cannot have died in idleness, and is never sent twice, except on by a 307 or 308. Another
        redirect would turn it into a GET: it is a `BadAnswer`.
        """

    async def head(self, url: str, *, deadline: float) -> Head:
        """What the server says about a file, within `deadline` seconds."""

    async def told_size(self, url: str, *, first_byte: bool, deadline: float) -> int | None:
        """A file's size in bytes as the head of a GET tells, None if it does not, within `deadline` seconds.

        Nothing of its body is read. With `first_byte` no more than that is asked for.
        """

    def unsized(self, url: str) -> AsyncGenerator[bytes]:
        """A whole file of whose size its server says nothing, until it ends; a digest has to say whether that is all.

        Silence is borne for as long as that before a head.
        """

    def stream(
        self,
        url: str,
        *,
        start: int = 0,
        stop: int | None = None,
        size: int | None = None,
        validator: Validator | None = None,
        judged: bool = False,
        ranged: bool = True,
    ) -> AbstractAsyncContextManager[Body]:
        """A file from byte `start` on, up to (not including) `stop` or its end.

        Args:
            url: The file.
            start: Offset of the first byte wanted.
            stop: Offset after the last byte wanted; the end of the file if None.
            size: The file's size in bytes, if known; an answer that says otherwise is `Changed`.
            validator: The generation already held in part; another one is `Changed`.
            judged: Whether a digest will judge the bytes: any success is taken, whatever coding it names.
            ranged: Whether to ask for the part that is wanted; else the whole file is asked for, and the rest of it discarded.
        """


def seconds(http_date: str | None) -> float | None:
    """An HTTP-date as seconds since the epoch, None if absent or unreadable (RFC 9110, 5.6.7)."""
    if http_date is None:
        return None
    try:
        when: datetime = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
