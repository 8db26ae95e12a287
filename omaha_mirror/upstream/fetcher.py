"""The port to the servers upstream: every read has a size limit and a deadline.

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
    """The validator of a generation of a file (RFC 9110, section 8.8).

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
        """The value for If-Range: a strong ETag, else a Last-Modified that is surely strong."""
        if self.etag is not None:
            quoted = len(self.etag) >= 2 and self.etag[0] == self.etag[-1] == '"'
            return self.etag if quoted else None
        modified, date = seconds(self.last_modified), seconds(self.date)
        if modified is None or date is None or date - modified < STRONG_AGE:
            return None
        return self.last_modified

    def same(self, other: "Validator") -> bool:
        """Whether both may be of the same generation.

        This is no proof: some servers send no validators. If the validator is the only proof, compare `strong` as well.
        """
        if self.etag is not None and other.etag is not None:
            return self.etag.removeprefix("W/") == other.etag.removeprefix("W/")
        if self.last_modified is not None and other.last_modified is not None:
            return self.last_modified == other.last_modified
        return True


@dataclass(frozen=True, slots=True)
class Head:
    """The result of a HEAD request.

    Attributes:
        url: After redirects.
        size: Content-Length in bytes, if announced.
        validator: Of this generation.
    """

    url: str
    size: int | None
    validator: Validator


class Body(Protocol):
    """A response whose body is read: bytes `start` to at most `stop` of a file."""

    @property
    def url(self) -> str:
        """The URL after redirects."""

    @property
    def start(self) -> int:
        """Offset in the file of the first byte that `chunks` delivers: the one asked for."""

    @property
    def stop(self) -> int:
        """Offset after the last byte that `chunks` delivers without an error."""

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
                again to continue from the same byte.
            Dropped: The connection was closed, or the body ended early.
            TooLarge: The server sent more than it announced.
        """


class Fetcher(Protocol):
    """How the mirror reads from upstream servers."""

    async def small(self, url: str, *, limit: int, deadline: float, judged: bool = False) -> bytes:
        """A whole small file of at most `limit` bytes, within `deadline` seconds.

        `judged` says that the caller validates the bytes: their Content-Encoding is ignored.
        """

    async def post(self, url: str, body: bytes, *, limit: int, deadline: float) -> bytes:
        """Post XML; the whole response of at most `limit` bytes, within `deadline` seconds.

        A server that got `body` may have acted on it, so it uses a new connection, which cannot be closed
        from idleness, and is never sent twice, except after a 307 or 308. Another redirect would turn it into a
        GET: it is a `BadAnswer`.
        """

    async def head(self, url: str, *, deadline: float) -> Head:
        """Size and validator of a file by HEAD, within `deadline` seconds."""

    async def declared_size(self, url: str, *, first_byte: bool, deadline: float) -> int | None:
        """A file's size in bytes from the head of a GET, None if it has none, within `deadline` seconds.

        No body is read. With `first_byte` only that byte is requested.
        """

    def unsized(self, url: str) -> AsyncGenerator[bytes]:
        """A whole file of unknown size, until its connection ends; the caller must verify its digest.

        The stall deadline is that for a head.
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
            start: Offset of the first byte.
            stop: Offset after the last byte; the end of the file if None.
            size: The file's size in bytes, if known; another size is `Changed`.
            validator: Of the generation of the bytes in the cache; another one is `Changed`.
            judged: Whether the caller verifies a digest: every successful status and coding is accepted.
            ranged: Whether to request only these bytes; else the whole file is requested, and the rest discarded.
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
