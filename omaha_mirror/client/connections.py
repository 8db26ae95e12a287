"""HTTP as update_engine uses it: its header fields, a connection for each request, its deadlines, its redirects."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import aiohttp

CONNECT = 30.0
SILENCE = 90.0
"""Seconds without a byte after which update_engine gives a transfer up (libcurl_http_fetcher.cc:115)."""
MAX_REDIRECTS = 10
ANSWER_LIMIT = 1024 * 1024


class ConnectionFailed(Exception):
    """There is no connection, or it ended early; the message is for people."""


class AnswerTooLong(ConnectionFailed):
    """The answer to an Omaha request has more than `ANSWER_LIMIT` bytes."""


def connections() -> aiohttp.ClientSession:
    """A session that sends what update_engine sends: no User-Agent, no Accept-Encoding, no cookies.

    Proxies of the environment are not used.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE),
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


@asynccontextmanager
async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send a request; gives the answer when its head is there.

    Redirects stay within their scheme (libcurl_http_fetcher.cc:148). Raises ConnectionFailed.
    """
    with _translated():
        response = await session.request(
            method, url, headers=headers, data=body, max_redirects=MAX_REDIRECTS
        )
    try:
        if len({hop.url.scheme for hop in (*response.history, response)}) > 1:
            raise ConnectionFailed("it redirects from http to https or back")
        yield response
    finally:
        response.close()


async def read(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of the body, none at its end. Raises ConnectionFailed."""
    with _translated():
        return await response.content.readany()


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, bytes]:
    """Send an Omaha request; gives the status and the body of the answer. Raises ConnectionFailed."""
    answer = bytearray()
    headers = {"Content-Type": "text/xml"}
    try:
        async with (
            asyncio.timeout(SILENCE),
            exchange(session, "POST", url, headers=headers, body=body) as response,
        ):
            while chunk := await read(response):
                answer += chunk
                if len(answer) > ANSWER_LIMIT:
                    raise AnswerTooLong(f"an answer has more than {ANSWER_LIMIT} bytes")
            return response.status, bytes(answer)
    except TimeoutError:
        raise ConnectionFailed(f"no whole answer within {SILENCE:.0f} s") from None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConnectionFailed(_describe(error)) from error


def _describe(error: BaseException) -> str:
    """What went wrong, for people."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {CONNECT:.0f} s"
        case TimeoutError():
            return f"nothing came for {SILENCE:.0f} s"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "the connection was closed"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} is not known"
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
            return str(error)
        case OSError(errno=int() as number) if number > 0:
            return os.strerror(number)
    return str(error) or type(error).__name__
