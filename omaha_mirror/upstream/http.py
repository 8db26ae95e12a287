"""The `Fetcher` over HTTP: reads responses."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from omaha_mirror.aio.clock import Clock
from omaha_mirror.upstream import resume
from omaha_mirror.upstream.connector import body_of
from omaha_mirror.upstream.errors import Dropped, TooLarge
from omaha_mirror.upstream.fetcher import Body, Head, Validator
from omaha_mirror.upstream.requests import HttpSettings, Requests, translated

MIRROR_STALL = 30.0
"""The stall deadline for another mirror of this kind: it sends a trickle while it fetches, and hedges itself."""


class HttpFetcher:
    """A `Fetcher` over HTTP/1.1; see the port for its methods, and `Requests` for connections and redirects."""

    def __init__(self, settings: HttpSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._requests = Requests(settings, clock or Clock())
        self.refusals = self._requests.refusals

    async def close(self) -> None:
        """Close the connections that are kept for reuse. The fetcher can be used again."""
        await self._requests.close()

    async def small(self, url: str, *, limit: int, deadline: float, judged: bool = False) -> bytes:
        """A whole small file of at most `limit` bytes, within `deadline` seconds."""
        with self._requests.translated(url, f"no whole answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("GET", url, {}) as response:
                return await _whole(url, response, limit, judged=judged)

    async def post(self, url: str, body: bytes, *, limit: int, deadline: float) -> bytes:
        """Post XML; the whole response of at most `limit` bytes, within `deadline` seconds."""
        with self._requests.translated(url, f"no whole answer within {deadline:g} s"):
            async with (
                asyncio.timeout(deadline),
                self._requests.new_session(reuse=False) as session,
                self._answer("POST", url, {"Content-Type": "text/xml"}, body, session) as response,
            ):
                return await _whole(url, response, limit)

    async def head(self, url: str, *, deadline: float) -> Head:
        """Size and validator of a file by HEAD, within `deadline` seconds."""
        with self._requests.translated(url, f"no answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("HEAD", url, {}) as response:
                resume.require(url, response.status, response.headers, (200,))
                return Head(
                    url=str(response.url),
                    size=resume.content_length(response.headers),
                    validator=Validator.of(response.headers),
                )

    async def declared_size(self, url: str, *, first_byte: bool, deadline: float) -> int | None:
        """A file's size in bytes from the head of a GET, None if it has none, within `deadline` seconds."""
        headers = resume.request_headers(0, 1 if first_byte else None, None)
        with self._requests.translated(url, f"no answer within {deadline:g} s"):
            async with asyncio.timeout(deadline), self._answer("GET", url, headers) as response:
                return resume.declared_size(url, response.status, response.headers)

    async def unsized(self, url: str) -> AsyncGenerator[bytes]:
        """A whole file of unknown size, until its connection ends."""
        silence = f"nothing for {self._settings.head_timeout:g} s"
        async with self._answer("GET", url, {}) as response:
            resume.require(url, response.status, response.headers, resume.WHOLE, judged=True)
            while True:
                with self._requests.translated(url, silence):
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
        ranged: bool = True,
    ) -> AsyncIterator[Body]:
        """A file from byte `start` on, up to (not including) `stop` or its end."""
        headers = resume.request_headers(start, stop, validator) if ranged else {}
        with self._requests.translated(
            url, f"no response head within {self._settings.head_timeout:g} s"
        ):
            async with asyncio.timeout(self._settings.head_timeout):
                response = await self._requests.send("GET", url, headers)
        try:
            part = resume.judge(
                url,
                response.status,
                response.headers,
                start=start,
                stop=stop,
                size=size,
                validator=validator,
                judged=judged,
                ranged=ranged,
            )
            yield _HttpBody(response, start, part, self._stall_timeout(response))
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
        response = await self._requests.send(method, url, headers, body, session)
        try:
            yield response
        finally:
            response.close()

    def _stall_timeout(self, response: aiohttp.ClientResponse) -> float:
        stall, cached_by = self._settings.stall_timeout, response.headers.get("Cache-Status", "")
        return max(stall, MIRROR_STALL) if cached_by.startswith("omaha-mirror") else stall


class _HttpBody:
    """A `Body` with its position, so that `chunks` can be called again."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        start: int,
        part: resume.BodyPart,
        stall_timeout: float,
    ) -> None:
        self.url = str(response.url)
        self.start = start
        self.stop = part.stop
        self.size = part.size
        self.validator = part.validator
        self._content = body_of(response)
        self._at = part.first
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
    """The body of a response with the whole file."""
    resume.require(url, response.status, response.headers, resume.WHOLE, judged=judged)
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the answer is larger than {limit} bytes", url)
    return bytes(body)
