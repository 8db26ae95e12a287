"""Heads that libcurl takes are taken; what is no head is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.connector import Chunks
from omaha_mirror.upstream.errors import BadAnswer, Dropped, UpstreamError
from omaha_mirror.upstream.head import NotHttp, plain
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings

BODY = b"hello, machines"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
OK = b"HTTP/1.1 200 OK\r\n"

HEADS = {
    "a field of 9 kB": OK + LENGTH + b"Set-Cookie: a=" + b"x" * 9000 + b"\r\n\r\n",
    "a field of 99 kB": OK + b"X: " + b"x" * 99_000 + b"\r\n" + LENGTH + b"\r\n",
    "two thousand fields": OK + b"X-Served-By: cache\r\n" * 2000 + LENGTH + b"\r\n",
    "two equal lengths": OK + LENGTH + LENGTH + b"\r\n",
    "two equal lengths in one": OK + b"Content-Length: 15, 15\r\n\r\n",
    "two lengths": OK + b"Content-Length: 99\r\n" + LENGTH + b"\r\n",
    "a length among spaces": OK + b"Content-Length:   \t 15  \r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +15\r\n\r\n",
    "a length of thirty zeros first": OK + b"Content-Length: " + b"0" * 30 + b"15\r\n\r\n",
    "a length beyond all bounds": OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a length that is none": OK + b"Content-Length: many\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 15\r\n\r\n",
    "folded": OK + b"Content-Length:\r\n 15\r\nX-A: b\r\n\tc\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n",
    "an empty reason": b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\n",
    "in small letters": b"http/1.1 200 ok\r\ncontent-length: 15\r\n\r\n",
    "no carriage returns": b"HTTP/1.1 200 OK\nContent-Length: 15\n\n",
    "version 2": b"HTTP/2 200\r\n" + LENGTH + b"\r\n",
    "version 1.0, until it closes": b"HTTP/1.0 200 OK\r\n\r\n",
    "until it closes": OK + b"Connection: keep-alive\r\n\r\n",
    "a line without a colon": OK + b"nonsense\r\n" + LENGTH + b"\r\n",
    "bytes that are no text": b"HTTP/1.1 200 \xc4\xd6\r\nX: \xff\x00\x01\r\n" + LENGTH + b"\r\n",
    "empty lines before": b"\r\n\r\n" + OK + LENGTH + b"\r\n",
    "interim answers before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK + LENGTH + b"\r\n",
    "chunked and a length": OK + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: Chunked\r\n\r\n",
    "the coding identity": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n",
    "an upgrade on offer": OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\n" + LENGTH + b"\r\n",
    "203": b"HTTP/1.1 203 Non-Authoritative\r\n" + LENGTH + b"\r\n",
    "another success": b"HTTP/1.1 201 Created\r\n" + LENGTH + b"\r\n",
    "206 for the whole": b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-14/15\r\n\r\n",
    "206 without a range": b"HTTP/1.1 206 Partial\r\n" + LENGTH + b"\r\n",
    "206 of what is no range": b"HTTP/1.1 206 Partial\r\nContent-Range: all\r\n" + LENGTH + b"\r\n",
    "labelled gzip": OK + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n",
    "labelled x-gzip": OK + b"Content-Encoding: x-gzip\r\n" + LENGTH + b"\r\n",
    "labelled with nothing": OK + b"Content-Encoding:\r\n" + LENGTH + b"\r\n",
}  # fmt: skip


@asynccontextmanager
async def answering(head: bytes, body: bytes, piece: int) -> AsyncIterator[str]:
    """A server that answers each connection once, in pieces of so many bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = head + body
        for at in range(0, len(answer), piece):
            writer.write(answer[at : at + piece])
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("name", HEADS)
async def test_what_a_machine_would_take_is_taken(name: str, in_pieces: bool) -> None:
    head = HEADS[name]
    body = CHUNKED if b"hunked" in head else BODY
    piece = max(1, len(head) // 300) if in_pieces else 10**9
    async with answering(head, body, piece) as origin:
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        async with fetcher.stream(f"{origin}/x", size=len(BODY), judged=True) as answer:
            assert b"".join([chunk async for chunk in answer.chunks()]) == BODY
        await fetcher.close()


CHUNKS = {
    "no carriage returns": b"4\nhell\nb\no, machines\n0\n\n",
    "none after sizes": b"4\nhell\r\nb\no, machines\r\n0\r\n\r\n",
    "zeros and capitals": b"0004\r\nhell\r\n000B\r\no, machines\r\n000\r\n\r\n",
    "spaces after sizes": b"4  \r\nhell\r\nb\t \r\no, machines\r\n0 \r\n\r\n",
    "extensions among spaces": b'4 ; a = b\r\nhell\r\nb ;c="d;e"\r\no, machines\r\n0 ;f\r\n\r\n',
    "an extension of 99 kB": b"4;a=" + b"x" * 99_000 + b"\r\nhell\r\nb\r\no, machines\r\n0\r\n\r\n",
    "trailers": b"f\r\nhello, machines\r\n0\r\nA B : \x01\r\nnone\r\n"
    + b"X: y\r\n" * 500
    + b"\r\n",
    "one for each byte": b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("piece", [1, 7, 10**9])
@pytest.mark.parametrize("name", CHUNKS)
async def test_chunks_that_a_machine_would_take_are_taken(name: str, piece: int) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    # The server waits a turn after each piece: a long body in pieces of one byte would take a while.
    piece = max(piece, len(CHUNKS[name]) // 1000)
    async with answering(head, CHUNKS[name], piece) as origin:
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        assert await fetcher.small(f"{origin}/x", limit=100, deadline=20) == BODY
        await fetcher.close()


@pytest.mark.parametrize(
    "body",
    [
        b"f\r\nhello, machines",
        b"f\r\nhello, machines\r\n0\r\n",
        b"4\r\nhello, machines\r\n0\r\n\r\n",
        b"\r\nhello, machines\r\n0\r\n\r\n",
        b"-1\r\nhello, machines\r\n0\r\n\r\n",
        b"00000000000000000f\r\nhello, machines\r\n0\r\n\r\n",
    ],
    ids=["cut", "without its end", "longer than said", "no size", "a sign", "18 digits"],
)
async def test_chunks_that_are_broken_are_no_body(body: bytes) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    async with answering(head, body, 10**9) as origin:
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        with pytest.raises(Dropped):
            await fetcher.small(f"{origin}/x", limit=100, deadline=20)
        await fetcher.close()


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 9))
def test_chunks_come_out_as_they_went_in(pieces: list[bytes], step: int) -> None:
    body = b"".join(b"%x\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\n\nNEXT"
    chunks, got = Chunks(), b""
    for at in range(0, len(body), step):
        if chunks.is_over:
            break
        got += chunks.strict(body[at : at + step])[0]
    assert chunks.is_over
    assert Chunks().strict(got) == (Chunks().strict(body)[0], b"")
    assert Chunks().strict(body)[1] == b"NEXT"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("bytes 5-14/15", 5),
        ("bytes=5-14/15", 5),
        ("bytes: 5-14/15", 5),
        ("Bytes 5 - 14 / 15", 5),
        ("bytes 5-14/*", 5),
        ("bytes 5-14", 5),
        ("5-14/15", 5),
    ],
)
async def test_a_range_is_placed_however_it_is_written(text: str, start: int) -> None:
    head = b"HTTP/1.1 206 Partial\r\nContent-Range: %s\r\n\r\n" % text.encode()
    async with answering(head, BODY[start:], 10**9) as origin:
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        stream = fetcher.stream(f"{origin}/x", start=start, size=len(BODY), judged=True)
        async with stream as answer:
            assert b"".join([chunk async for chunk in answer.chunks()]) == BODY[start:]
        await fetcher.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SMTP ready\r\n\r\n",
        b"<html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 60_000 + b"\r\n",
    ],
    ids=["no status", "four digits", "another protocol", "a page", "480 kB"],
)
async def test_what_is_no_head_is_refused(head: bytes) -> None:
    async with answering(head, BODY, 10**9) as origin:
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        with pytest.raises(BadAnswer):
            async with fetcher.stream(f"{origin}/x", size=len(BODY), judged=True):
                pass
        await fetcher.close()


async def test_a_body_after_the_answer_to_head_is_nobodys() -> None:
    """The server keeps the connection: what comes next on it must not be taken for the next answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK + LENGTH + b"\r\n" + BODY)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
        for _ in range(3):
            assert (await fetcher.head(f"{origin}/x", deadline=10)).size == len(BODY)
            assert await fetcher.small(f"{origin}/x", limit=100, deadline=10) == BODY
        await fetcher.close()


@given(st.binary(max_size=200) | st.builds(bytes.__add__, st.just(OK), st.binary(max_size=200)))
def test_whatever_comes_becomes_a_strict_head_or_none(head: bytes) -> None:
    try:
        strict = plain(head)
    except NotHttp:
        return
    assert strict.endswith(b"\r\n\r\n")
    first, *fields = strict[:-4].split(b"\r\n")
    assert first.startswith(b"HTTP/1.")
    assert all(b": " in field and b"\n" not in field for field in fields)
    assert sum(field.startswith(b"Content-Length") for field in fields) <= 1


async def test_where_nothing_will_judge_the_bytes_a_label_still_counts() -> None:
    for name in ("labelled gzip", "labelled x-gzip", "another success"):
        async with answering(HEADS[name], BODY, 10**9) as origin:
            fetcher = HttpFetcher(HttpSettings(AllowList(origin)))
            with pytest.raises(UpstreamError):
                async with fetcher.stream(f"{origin}/x", size=len(BODY)):
                    pass
            await fetcher.close()
