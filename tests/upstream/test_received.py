"""A body of known length is taken past the parser: nothing is lost or gained, and its connection serves again."""

import asyncio
from contextlib import closing
from unittest.mock import Mock

import aiohttp
import pytest

from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.received import AT_ONCE, Received
from omaha_mirror.upstream.requests import HttpSettings

BODY = bytes(range(251)) * 80


@pytest.mark.parametrize(
    ("early", "excess", "connections"),
    [(0, b"", 1), (10, b"", 1), (len(BODY), b"", 1), (0, b"more", 2), (10, b"HTTP/1.1 200 -", 2)],
)
async def test_a_connection_is_used_again_unless_more_came_than_was_announced(
    early: int, excess: bytes, connections: int
) -> None:
    seen, has_head = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        with closing(writer):
            while await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
                writer.write(head + BODY[:early])
                await has_head.wait()
                has_head.clear()
                writer.write(BODY[early:] + excess)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
    for _ in range(2):
        async with fetcher.stream(f"{origin}/file", size=len(BODY)) as body:
            has_head.set()
            assert b"".join([chunk async for chunk in body.chunks()]) == BODY
    assert seen == connections
    await fetcher.close()
    server.close()
    await server.wait_closed()


async def test_no_more_is_taken_while_enough_waits_and_what_came_can_be_read() -> None:
    transport, is_whole = Mock(), Mock()
    received = Received(transport, 3 * AT_ONCE, is_whole)
    received.feed(bytes(AT_ONCE))
    assert not transport.pause_reading.called
    received.feed(b"abc")
    assert transport.pause_reading.call_count == 1
    assert len(await received.readany()) == AT_ONCE
    assert transport.resume_reading.call_count == 1
    received.lost(None)
    assert await received.readany() == b"abc"
    with pytest.raises(aiohttp.ClientPayloadError, match=f"{2 * AT_ONCE - 3} bytes are missing"):
        await received.readany()
    assert not is_whole.called
