"""Where the bytes of a package come from upstream, and the blob that they must turn out to be."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from http import HTTPStatus

from omaha_mirror.cache import Expected
from omaha_mirror.cache.errors import (
    SourceChanged,
    SourceFailed,
    SourceGone,
    SourceRefused,
    SourceStalled,
)
from omaha_mirror.cache.source import Validator
from omaha_mirror.catalog import PackageFile, Release
from omaha_mirror.upstream import fetcher
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Changed,
    Forbidden,
    Gone,
    Stalled,
    UpstreamError,
)
from omaha_mirror.upstream.fetcher import Fetcher
from omaha_mirror.upstream.resume import backoff

Named = tuple[tuple[str, str], ...]
"""The names of the packages of a release and the keys of their blobs, the payload first."""


def expected(file: PackageFile) -> Expected:
    """The digests by which the cache verifies a package."""
    return Expected(
        file.size,
        file.sha256.raw if file.sha256 is not None else None,
        file.sha1.raw if file.sha1 is not None else None,
        file.url,
    )


def named(release: Release) -> Named:
    """The packages of a release."""
    return tuple((file.name, expected(file).key) for file in release.files)


FIELDS = ("etag", "last_modified", "date")
NO_RANGES = 3
"""Answers in a row to a Range that are none, where the whole file may still be had."""
_FOR_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class UpstreamSource:
    """One URL of a known size; implements the cache's `Source`.

    Args:
        upstream: fetches.
        url: of the file.
        size: in bytes.
        rng: for jitter.
        known: whether a digest is known that will judge the bytes; else only a strong validator joins two parts.
    """

    def __init__(
        self, upstream: Fetcher, url: str, size: int, rng: random.Random, *, known: bool = True
    ) -> None:
        self.name = url
        self._known = known
        self._upstream = upstream
        self._size = size
        self._rng = rng
        self._no_ranges = 0

    @asynccontextmanager
    async def open(
        self, start: int, stop: int, validator: Validator | None
    ) -> AsyncIterator[UpstreamBody]:
        """See `Source.open`."""
        held = None
        if validator is not None:
            held = fetcher.Validator(*(validator.get(name) for name in FIELDS))
            if not self._known and held.strong is None:
                raise SourceChanged(
                    f"{self.name}: no digest is known, and nothing proves that the rest belongs to it"
                )
        ranged = not self._known or self._no_ranges < NO_RANGES
        with _translated():
            async with AsyncExitStack() as stack:
                stream = self._upstream.stream(
                    self.name,
                    start=start,
                    stop=stop if stop < self._size else None,
                    size=self._size,
                    validator=held,
                    judged=self._known,
                    ranged=ranged,
                )
                try:
                    body = await stack.enter_async_context(stream)
                except UpstreamError as error:
                    if not ranged:
                        self._no_ranges = 0
                    elif start > 0 and _refuses_range(error):
                        self._no_ranges += 1
                    raise
                if start > 0:
                    self._no_ranges = 0
                yield UpstreamBody(body)

    def pause(self, attempt: int, failure: SourceFailed) -> float:
        """See `Source.pause`."""
        return backoff(attempt, self._rng, failure.retry_after)


def _refuses_range(error: UpstreamError) -> bool:
    """Whether a server that answers so may have the whole file all the same."""
    if isinstance(error, BadStatus):
        return error.status not in _FOR_NOW and (
            error.status < 500 or error.status == HTTPStatus.NOT_IMPLEMENTED
        )
    return isinstance(error, BadAnswer | Changed)


class UpstreamBody:
    """One answer; implements the cache's `Body`."""

    def __init__(self, body: fetcher.Body) -> None:
        self._body = body
        self.start = body.start
        found = body.validator
        texts = (found.etag, found.last_modified, found.date)
        self.validator: Validator = {n: t for n, t in zip(FIELDS, texts, strict=True) if t}

    async def chunks(self) -> AsyncGenerator[bytes]:
        """See `Body.chunks`."""
        with _translated():
            async with aclosing(self._body.chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk


@contextmanager
def _translated() -> Iterator[None]:
    """Name upstream's errors for the cache: by whether another try may help."""
    try:
        yield
    except Gone as error:
        raise SourceGone(str(error)) from error
    except Forbidden as error:
        raise SourceRefused(str(error)) from error
    except Changed as error:
        raise SourceChanged(str(error)) from error
    except BadStatus as error:
        raise SourceFailed(str(error), error.retry_after) from error
    except Stalled as error:
        raise SourceStalled(str(error)) from error
    except UpstreamError as error:
        raise SourceFailed(str(error)) from error
