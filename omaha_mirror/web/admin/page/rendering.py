"""From values to bytes: text, and headers that let a browser run no foreign script."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from omaha_mirror.http_ranges import Precondition, evaluate
from omaha_mirror.text import ago, iso, minute

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Something to send, and the ETag that stands for its bytes."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Rendered:
        """With the ETag of these bytes."""
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:24]}"')


def reply(
    request: web.BaseRequest, rendered: Rendered, content_type: str = HTML, status: int = 200
) -> web.Response:
    """The answer to a request; 304 where the client has these bytes (RFC 9110, section 13.1.2)."""
    headers = {**HEADERS, "ETag": rendered.etag}
    found = evaluate(request.method, request.headers, etag=rendered.etag, last_modified=None)
    if status == 200 and found is Precondition.NOT_MODIFIED:
        return web.Response(status=304, headers=headers)
    return web.Response(
        status=status,
        body=rendered.body,
        content_type=content_type,
        charset="utf-8",
        headers=headers,
    )


class Shared:
    """A rendering that all requests within some seconds share: a hundred open pages cost what one costs.

    Args:
        make: renders it.
        fresh: for how many seconds it lasts.
        patience: seconds that a request waits for it.
        late: what the request gets then.
    """

    def __init__(
        self, make: Callable[[], Awaitable[str]], fresh: float, patience: float, late: str
    ) -> None:
        self._make = make
        self._fresh = fresh
        self._patience = patience
        self._late = Rendered.of(late.encode())
        self._turn = asyncio.Lock()
        self._last = self._late
        self._until = 0.0

    async def __call__(self) -> Rendered:
        """The rendering, at most `fresh` seconds old. When the request that renders it is cancelled, the next one renders."""
        try:
            async with asyncio.timeout(self._patience), self._turn:
                if time.monotonic() >= self._until:
                    self._last = Rendered.of((await self._make()).encode())
                    self._until = time.monotonic() + self._fresh
                return self._last
        except TimeoutError:
            return self._late

    def expire(self) -> None:
        """Render anew for the next request: what it shows has changed."""
        self._until = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: for machines (ISO 8601), as text, and how long ago it was."""

    iso: str
    text: str
    age: str


def moment(time: float, now: float) -> Moment:
    """A time in seconds since the epoch."""
    return Moment(iso(time), minute(time), ago(now - time))


def percent(part: float, whole: float) -> int:
    """Rounded down, so that only the whole is 100."""
    return int(100 * part / whole) if whole else 0


def file_of(url: str) -> str:
    """The part of a package's address that tells it from others: board, version and name."""
    return "/".join(urlsplit(url).path.split("/")[-3:])
