"""The fetcher for HTTP: aiohttp under this mirror's own limits, redirect rule and proxy rule."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from omaha_mirror import __version__
from omaha_mirror.aio.clock import Clock
from omaha_mirror.config.proxies import proxy_of
from omaha_mirror.upstream import resume
from omaha_mirror.upstream.allowed import AllowList, as_it_came
from omaha_mirror.upstream.connector import LenientConnector
from omaha_mirror.upstream.errors import (
    BadAnswer,
    Dropped,
    Forbidden,
    TooLarge,
    Unreachable,
)
from omaha_mirror.upstream.fetcher import Body, Head, Validator, seconds
from omaha_mirror.upstream.head import MAX_HEAD
from omaha_mirror.upstream.refusals import Refusals
from omaha_mirror.upstream.translated import translated

MIRROR_STALL = 30.0
"""Seconds of silence that are no stall where a mirror like this one answers: it feeds a trickle, and races itself."""
MAX_REDIRECTS = 10
"""As many as a machine follows (update_engine/libcurl_http_fetcher.cc)."""
_NO_REDIRECT = 304
_REPEATED = (307, 308)
"""The redirects that leave method and body as they are (RFC 9110, sections 15.4.8 and 15.4.9)."""

MAX_AGE = 9
"""Digits of an Age that is believed."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to reach upstream servers.

    Attributes:
        allowed: The origins that may be asked.
        connect_timeout: Seconds for name look-up, connecting and TLS together.
        head_timeout: Seconds until the head of a stream's answer, connecting and redirects included.
        stall_timeout: Seconds without a byte after which a body counts as stalled.
        ca_file: PEM file of authorities trusted besides the system's.
        proxy: URL of an HTTP proxy for everything; None takes the environment's, see `proxies`.
    """

    allowed: AllowList
    connect_timeout: float = 30.0
    head_timeout: float = 90.0
    stall_timeout: float = 5.0
    ca_file: Path | None = None
    proxy: str | None = None


class HttpFetcher:
    """A `Fetcher` over HTTP/1.1; see the port for what its methods promise.

    Args:
        settings: how to reach upstream servers.
        clock: told what time it is there, and asked where a certificate is not valid now.

    Attributes:
        refusals: Redirects that were not followed.

    Raises:
        ValueError: `ca_file` cannot be read or holds no certificate.
    """

    def __init__(self, settings: HttpSettings, clock: Clock | None = None) -> None:
        self.refusals = Refusals()
        self._settings = settings
        self._clock = clock or Clock()
        self._tls = _tls(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections that are kept for reuse. The fetcher can be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def small(self, url: str, *, limit: int, deadline: float, judged: bool = False) -> bytes:
        """A whole small file of at most `limit` bytes, within `deadline` seconds."""
        with self._translated(url, f"no whole answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("GET", url, {}) as response:
                return await _whole(url, response, limit, judged=judged)

    async def post(self, url: str, body: bytes, *, limit: int, deadline: float) -> bytes:
        """Send XML; the whole answer of at most `limit` bytes, within `deadline` seconds."""
        with self._translated(url, f"no whole answer within {deadline:g} s"):
            async with (
                asyncio.timeout(deadline),
                self._new_session(reuse=False) as session,
                self._answer("POST", url, {"Content-Type": "text/xml"}, body, session) as response,
            ):
                return await _whole(url, response, limit)

    async def head(self, url: str, *, deadline: float) -> Head:
        """What the server says about a file, within `deadline` seconds."""
        with self._translated(url, f"no answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("HEAD", url, {}) as response:
                resume.require(url, response.status, response.headers, (200,))
                return Head(
                    url=str(response.url),
                    size=resume.content_length(response.headers),
                    validator=Validator.of(response.headers),
                )

    async def told_size(self, url: str, *, first_byte: bool, deadline: float) -> int | None:
        """A file's size in bytes as the head of a GET tells, None if it does not, within `deadline` seconds."""
        headers = resume.request_headers(0, 1 if first_byte else None, None)
        with self._translated(url, f"no answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("GET", url, headers) as response:
                return resume.told_size(url, response.status, response.headers)

    async def unsized(self, url: str) -> AsyncGenerator[bytes]:
        """A whole file of whose size its server says nothing, until it ends."""
        silence = f"nothing for {self._settings.head_timeout:g} s"
        async with self._answer("GET", url, {}) as response:
            resume.require(url, response.status, response.headers, resume.WHOLE, judged=True)
            while True:
                with self._translated(url, silence):
                    async with asyncio.timeout(self._settings.head_timeout):
                        chunk = await response.content.readany()
                if not chunk:
                    return
                yield chunk

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        start: int = 0,
        stop: int | None = None,
        size: int | None = None,
        validator: Validator | None = None,
        judged: bool = False,
    ) -> AsyncIterator[Body]:
        """A file from byte `start` on, up to (not including) `stop` or its end."""
        headers = resume.request_headers(start, stop, validator)
        with self._translated(url, f"no response head within {self._settings.head_timeout:g} s"):
            async with asyncio.timeout(self._settings.head_timeout):
                response = await self._open("GET", url, headers)
        try:
            verdict = resume.judge(
                url,
                response.status,
                response.headers,
                start=start,
                stop=stop,
                size=size,
                validator=validator,
                judged=judged,
            )
            yield _HttpBody(response, start, verdict, self._stall_timeout(response))
        finally:
            response.close()

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._open(method, url, headers, body, session)
        try:
            yield response
        finally:
            response.close()

    async def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> aiohttp.ClientResponse:
        """The head of the answer, redirects followed within the allow-list; the caller closes it."""
        target = self._settings.allowed.check(url)
        for _ in range(MAX_REDIRECTS + 1):
            with self._translated(str(target), "no answer"):
                response = await (session or self._kept_session()).request(
                    method,
                    target,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    proxy=self._proxy(target),
                )
            self._note_time(response.headers)
            location = response.headers.get("Location", "")
            if not 300 <= response.status < 400 or response.status == _NO_REDIRECT:
                self.refusals.answered(url)
                return response
            response.close()
            if body is not None and response.status not in _REPEATED:
                raise BadAnswer(
                    f"the server answered a POST with the redirect {response.status}, which drops"
                    " what was posted; configure the address that it leads to",
                    str(target),
                )
            target = self._redirected(url, target, location)
        raise BadAnswer(f"more than {MAX_REDIRECTS} redirects", url)

    def _note_time(self, headers: Mapping[str, str]) -> None:
        """Tell the clock what an answer says of the time; one out of a cache has aged there (RFC 9111, section 5.1)."""
        date, age = seconds(headers.get("Date")), headers.get("Age", "0")
        if date is not None and age.isascii() and age.isdecimal() and len(age) <= MAX_AGE:
            self._clock.told(date + int(age))

    def _translated(self, url: str, silence: str) -> AbstractContextManager[None]:
        return translated(url, silence, self._clock.trouble)

    def _redirected(self, url: str, source: URL, location: str) -> URL:
        try:
            if not location:
                raise ValueError("it names no address")
            target = source.join(as_it_came(location))
        except ValueError as error:
            raise BadAnswer(f"a redirect to nowhere: {error}", str(source)) from error
        if source.scheme == "https" and target.scheme == "http":
            raise Forbidden(f"{source.origin()} redirects from https to http", str(target))
        try:
            return self._settings.allowed.check(target)
        except Forbidden as error:
            reason = f"{source.origin()} redirects, but {error.reason}"
            self.refusals.note(url, reason)
            raise Forbidden(reason, str(target)) from error

    def _stall_timeout(self, response: aiohttp.ClientResponse) -> float:
        stall, cached_by = self._settings.stall_timeout, response.headers.get("Cache-Status", "")
        return max(stall, MIRROR_STALL) if cached_by.startswith("omaha-mirror") else stall

    def _proxy(self, target: URL) -> str | None:
        if self._settings.proxy is not None:
            return self._settings.proxy
        name, proxy = proxy_of(str(target.origin()), os.environ) or ("", None)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise Unreachable(f"{name} names a proxy that is none for HTTP", str(target))
        return proxy

    def _kept_session(self) -> aiohttp.ClientSession:
        """The session that keeps connections, made on first use because it belongs to the running loop."""
        if self._session is None:
            self._session = self._new_session(reuse=True)
        return self._session

    def _new_session(self, *, reuse: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # How many connections there are is the callers' decision.
            connector=LenientConnector(limit=0, ssl=self._tls, force_close=not reuse),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout),
            auto_decompress=False,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept-Encoding": "identity",
                "User-Agent": f"omaha-mirror/{__version__}",
            },
        )


class _HttpBody:
    """A `Body` that reads an answer; it keeps its place, so that `chunks` can be called again."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        start: int,
        verdict: resume.Verdict,
        stall_timeout: float,
    ) -> None:
        self.url = str(response.url)
        self.start = start
        self.stop = verdict.stop
        self.size = verdict.size
        self.validator = verdict.validator
        self._content = response.content
        self._at = verdict.first
        self._stall_timeout = stall_timeout

    async def chunks(self) -> AsyncGenerator[bytes]:
        while self._at < self.stop:
            chunk = await self._read()
            if not chunk:
                raise Dropped(f"the answer ended at byte {self._at} of {self.stop}", self.url)
            wanted = slice(max(0, self.start - self._at), max(0, self.stop - self._at))
            self._at += len(chunk)
            if piece := chunk[wanted]:
                yield piece
        if self._at > self.size or (self._at == self.size and await self._read()):
            raise TooLarge(f"the server sent more than the file's {self.size} bytes", self.url)

    async def _read(self) -> bytes:
        silence = f"no byte for {self._stall_timeout:g} s at byte {self._at}"
        with translated(self.url, silence, str):
            async with asyncio.timeout(self._stall_timeout):
                return await self._content.readany()


async def _whole(
    url: str, response: aiohttp.ClientResponse, limit: int, *, judged: bool = False
) -> bytes:
    """The body of an answer that is the whole file."""
    resume.require(url, response.status, response.headers, resume.WHOLE, judged=judged)
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the answer is larger than {limit} bytes", url)
    return bytes(body)


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"ca_file {ca_file}: no usable certificate: {error}") from error
    return context
