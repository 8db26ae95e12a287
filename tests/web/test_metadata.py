"""What a client that resumes asks of the metadata, and what it is not sent in haste."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.cache import Window
from omaha_mirror.http_ranges import ByteRange, parse_range
from omaha_mirror.web import package, sending
from omaha_mirror.web.sending import (
    TOGETHER,
    in_one_piece,
    may_be_metadata,
    pause_at,
    wait_for_close,
)
from tests.cache.payloads import signed
from tests.support.mirror import PAYLOAD_PATH, mirror_in_process
from tests.support.talk import PATIENCE, dial, request
from tests.support.upstream import Upstream
from tests.web.secure import SecureTalk, dial_tls, listening, secure_settings

BODY = signed([b"data" * 9, b"more data"])
SIZE = 1000
METADATA = 300


@pytest.mark.parametrize(
    ("asked", "may_be", "pause"),
    [
        ("0-299", True, None),
        ("0-298", True, None),
        ("1-300", True, 300),
        ("150-449", True, 300),
        ("299-598", True, 300),
        ("150-448", True, None),
        ("150-450", True, None),
        ("300-599", False, None),
        ("301-600", False, None),
        ("150-", False, None),
        ("150-999", True, None),
        ("500-900", False, None),
    ],
)
def test_only_a_retry_of_the_metadata_pauses(asked: str, may_be: bool, pause: int | None) -> None:
    part = parse_range(f"bytes={asked}", SIZE)
    assert isinstance(part, ByteRange)
    assert (may_be_metadata(part), pause_at(part, METADATA)) == (may_be, pause)


@pytest.mark.parametrize(("size", "pause"), [(400, 300), (301, 300), (300, None)])
def test_a_retry_that_goes_beyond_the_end_pauses_too(size: int, pause: int | None) -> None:
    part = parse_range("bytes=200-499", size)
    assert isinstance(part, ByteRange)
    assert pause_at(part, METADATA) == pause


def test_a_suffix_and_what_has_no_metadata_pause_nowhere() -> None:
    suffix = parse_range("bytes=-299", SIZE)
    assert isinstance(suffix, ByteRange)
    assert not may_be_metadata(suffix)
    assert pause_at(ByteRange(100, 200, 200), 0) is None


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
async def test_what_lies_beyond_the_metadata_leaves_when_the_client_had_time_to_close(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_secure: bool
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    stop = BODY.index(b"data" * 9)
    asked, over = asyncio.Event(), asyncio.Event()

    async def wait(_: asyncio.Transport | None) -> None:
        asked.set()
        await over.wait()

    monkeypatch.setattr(package, "wait_for_close", wait)
    async with AsyncExitStack() as stack:
        mirror = await stack.enter_async_context(mirror_in_process(tmp_path, upstream.origin))
        if is_secure:
            address, _ = await stack.enter_async_context(listening(mirror, secure_settings()))
            talk = await stack.enter_async_context(dial_tls(address))
        else:
            place = mirror.address
            talk = SecureTalk(*await asyncio.open_connection(place.host, place.port))
            stack.callback(talk.writer.close)
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes=9-{9 + stop - 1}"}))
        head = await talk.head()
        assert (head.status, head.length) == (206, stop)
        async with asyncio.timeout(PATIENCE):
            assert await talk.reader.readexactly(stop - 9) == BODY[9:stop]
            await asked.wait()
            await mirror.round_trips(3)
            assert not talk.reader._buffer  # type: ignore[attr-defined]
            over.set()
            assert await talk.reader.readexactly(9) == BODY[stop : stop + 9]


async def test_a_client_that_closes_there_gets_no_more(upstream: Upstream, tmp_path: Path) -> None:
    """Its handler ends with it, and does not wait for the time to be over."""
    upstream.put(PAYLOAD_PATH, BODY)
    stop = BODY.index(b"data" * 9)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        async with dial(mirror.address) as talk:
            await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes=9-{9 + stop - 1}"}))
            await talk.head()
            assert await talk.read(stop - 9) == BODY[9:stop]
        await mirror.until(lambda: mirror.active == 0)


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamWriter, socket.socket]]:
    """This side's end, and a client's that has a small buffer."""
    ends: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, end: ends.put_nowait(end), "127.0.0.1", 0)
    async with server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, server.sockets[0].getsockname())
            end = await ends.get()
            yield end, client
            end.close()


def transport_of(end: asyncio.StreamWriter) -> asyncio.Transport:
    assert isinstance(end.transport, asyncio.Transport)
    return end.transport


async def test_the_kernel_gets_room_for_all_of_them(
    connection: tuple[asyncio.StreamWriter, socket.socket], tmp_path: Path
) -> None:
    """So a kill right after leaves nothing undelivered."""
    transport, count = transport_of(connection[0]), 200_000
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    (tmp_path / "payload").write_bytes(bytes(count + 9))
    with (tmp_path / "payload").open("rb") as file:
        assert in_one_piece(transport, Window(file, 0, count), count + 1) == b""
        assert in_one_piece(transport, Window(file, 10, count), count) == b""
        assert in_one_piece(transport, Window(file, 0, 2 * TOGETHER), 2 * TOGETHER) == b""
        data = in_one_piece(transport, Window(file, 0, count + 9), count)
    assert data == bytes(count)
    transport.write(data)
    assert transport.get_write_buffer_size() == 0


async def test_the_head_of_the_answer_leaves_with_them(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    stop = BODY.index(b"data" * 9)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror, dial(mirror.address) as talk:
        send, looked = package._send_together, []

        async def look_first(*args: Any) -> None:
            with suppress(BlockingIOError):
                looked.append(talk.sock.recv(1))
            looked.append(b"")
            await send(*args)

        monkeypatch.setattr(package, "_send_together", look_first)
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes=0-{stop - 1}"}))
        answer = await talk.answer()
    assert (answer.status, answer.body) == (206, BODY[:stop])
    assert looked == [b""], "nothing was sent before"


async def test_the_time_to_close_begins_when_the_client_has_all(
    connection: tuple[asyncio.StreamWriter, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel has taken may still be long on its way."""
    looks = asyncio.Semaphore(0)
    on_its_way = sending._on_its_way

    def look(transport: asyncio.Transport) -> bool:
        looks.release()
        return on_its_way(transport)

    monkeypatch.setattr(sending, "TIME_TO_CLOSE", 0.0)
    monkeypatch.setattr(sending, "LOOK", 0.0)
    monkeypatch.setattr(sending, "_on_its_way", look)
    end, client = connection
    end.write(bytes(200_000))
    waiting = asyncio.create_task(wait_for_close(transport_of(end)))
    for _ in range(10):
        await looks.acquire()
    assert not waiting.done()
    left = 200_000
    while left:
        left -= len(await asyncio.get_running_loop().sock_recv(client, left))
    await waiting
