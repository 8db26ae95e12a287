"""Connections: their deadlines, and what is left of them when a client has gone."""

import asyncio
import gc
import logging
import socket
from contextlib import AsyncExitStack, suppress

import pytest
from structlog.testing import capture_logs

from omaha_mirror.web import server
from omaha_mirror.web.fairness import FEW
from tests.support.mirror import PAYLOAD_PATH, Mirror, omaha
from tests.support.talk import Talk, dial, request
from tests.support.upstream import Upstream
from tests.web.conftest import BODY

HALF = len(BODY) // 2
HEALTH = request("GET", "/healthz")
CHECK = request("POST", "/v1/update/", body=omaha("request_check_first"))


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror waits for a first request not nearly as long as for a later one."""
    monkeypatch.setattr(server, "FIRST_REQUEST", 0.1)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror soon closes connections that are not used any more."""
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror takes three connections."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)


async def alive(talk: Talk) -> bool:
    """Whether the connection still serves requests."""
    await talk.send(HEALTH)
    return (await talk.answer()).body == b"ok\n"


# How many


@pytest.mark.usefixtures("narrow")
async def test_one_connection_too_many_is_closed_and_the_others_are_served(mirror: Mirror) -> None:
    talks = [await Talk.dial(mirror.address) for _ in range(3)]
    try:
        for talk in talks:
            assert await alive(talk)
        async with dial(mirror.address) as turned_away:
            assert await turned_away.rest() == b""
        for talk in talks:
            assert await alive(talk)
    finally:
        for talk in talks:
            talk.close()


# Deadlines


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("sent", [b"", b"G", HEALTH[:-2]])
async def test_a_first_request_that_does_not_come_is_not_waited_for(
    mirror: Mirror, sent: bytes
) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(sent)
        assert await talk.rest() == b""


@pytest.mark.usefixtures("strict")
async def test_a_header_that_dribbles_in_is_cut(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:

        async def dribble() -> None:
            await talk.send(HEALTH[:-2], "X: ")
            with suppress(ConnectionError):
                while True:
                    await talk.send("x")
                    await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        assert await talk.rest() == b""
        await dribbling


@pytest.mark.usefixtures("strict")
async def test_the_first_deadline_ends_with_the_first_request(
    mirror: Mirror, release: Upstream
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=0)
    async with dial(mirror.address) as talk, dial(mirror.address) as late:
        await talk.send(request("GET", PAYLOAD_PATH))
        await gate.reached()
        # Its deadline, which was set after the other's, has passed when it is closed.
        assert await late.rest() == b""
        gate.open()
        assert (await talk.answer()).body == BODY
        assert await alive(talk)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("sent", [b"", HEALTH[:-2], CHECK[:20]])
@pytest.mark.parametrize("first", [[HEALTH], [CHECK], [HEALTH, CHECK], [CHECK, HEALTH]])
async def test_an_idle_connection_is_closed(
    mirror: Mirror, first: list[bytes], sent: bytes
) -> None:
    assert (await mirror.check()).status == 200  # the release is known: checks wait for nothing
    async with dial(mirror.address) as talk:
        for message in first:
            await talk.send(message)
            assert (await talk.answer()).status == 200
        await talk.send(sent)
        assert await talk.rest() == b""


async def test_a_connection_is_kept_for_the_next_request(mirror: Mirror) -> None:
    path = await mirror.payload()
    async with dial(mirror.address) as talk:
        for start in (0, 1, HALF):
            await talk.send(request("GET", path, {"Range": f"bytes={start}-"}))
            assert (await talk.answer()).body == BODY[start:]
        await talk.send(CHECK)
        assert (await talk.answer()).status == 200
        await talk.send(request("GET", "/nothing"))
        assert (await talk.answer()).status == 404
        assert await alive(talk)


async def test_pipelined_requests_are_answered_in_order(mirror: Mirror) -> None:
    path = await mirror.payload()
    async with dial(mirror.address) as talk:
        for _ in range(2):
            await talk.send(CHECK)
            assert b"</response>" in (await talk.answer()).body
        await talk.send(CHECK, request("GET", path), request("GET", "/nothing"), HEALTH)
        assert b"</response>" in (await talk.answer()).body
        assert (await talk.answer()).body == BODY
        assert (await talk.answer()).status == 404
        assert (await talk.answer()).body == b"ok\n"


async def test_a_check_in_two_parts_and_one_behind_it_are_answered(mirror: Mirror) -> None:
    await mirror.payload()
    async with dial(mirror.address) as talk:
        await talk.send(CHECK[:-9])
        await mirror.round_trips(2)
        await talk.send(CHECK[-9:] + CHECK)
        for _ in range(2):
            assert b"</response>" in (await talk.answer()).body


async def test_all_that_wait_for_their_turn_are_answered_when_the_listener_stops(
    mirror: Mirror,
) -> None:
    await mirror.payload()
    async with AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(dial(mirror.address)) for _ in range(3 * FEW)]
        await mirror.round_trips(1)  # all are accepted
        await asyncio.gather(*(talk.send(CHECK) for talk in talks))
        stopping = asyncio.create_task(mirror.listener.stop())
        for talk in talks:
            assert (await talk.answer()).status == 200
        await stopping


async def test_a_client_that_is_gone_without_a_word_is_found(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:
        assert await alive(talk)
        found = [
            sock
            for sock in gc.get_objects()
            if isinstance(sock, socket.socket)
            and sock.fileno() >= 0
            and sock.family == socket.AF_INET
            and _peer(sock) == talk.sock.getsockname()
        ]
        [accepted] = found
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def _peer(sock: socket.socket) -> object:
    try:
        return sock.getpeername()
    except OSError:
        return None


async def test_http_1_0_gets_the_bytes_and_the_end(mirror: Mirror) -> None:
    path = await mirror.payload()
    async with dial(mirror.address) as talk:
        await talk.send(f"GET {path} HTTP/1.0\r\n\r\n")
        head = await talk.head()
        assert (head.status, head.length) == (200, len(BODY))
        assert await talk.rest() == BODY


# Clients that go


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
@pytest.mark.parametrize("at", [0, HALF], ids=["before the first byte", "in the middle"])
async def test_a_client_that_leaves_takes_its_reader_with_it(
    mirror: Mirror, release: Upstream, at: int, reset: bool
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=at)
    talk = await Talk.dial(mirror.address)
    await talk.send(request("GET", path))
    await gate.reached()
    if at:
        await talk.head()
        assert await talk.read(at) == BODY[:at]
    assert mirror.service.cache.fills()[0].readers == 1
    talk.close(reset=reset)
    await mirror.until(lambda: mirror.active == 0)
    [fill] = mirror.service.cache.fills()
    assert (fill.readers, fill.filled) == (0, at)
    gate.open()
    await mirror.until(lambda: len(mirror.ended()) == 1)
    assert (await mirror.get(path)).body == BODY


async def test_a_client_that_does_not_read_and_leaves_takes_its_reader_with_it(
    mirror: Mirror, release: Upstream
) -> None:
    large = bytes(16 * 1024 * 1024)
    release.put(PAYLOAD_PATH, large)
    path = await mirror.payload()
    assert (await mirror.get(path)).body == large
    talk = await Talk.dial(mirror.address, buffer=4096)
    await talk.send(request("GET", path))
    await talk.head()
    assert mirror.active == 1
    talk.close(reset=True)
    await mirror.until(lambda: mirror.active == 0)
    assert (await mirror.get(path, Range="bytes=-5")).body == bytes(5)


async def test_nothing_is_left_of_a_hundred_clients_that_left(
    mirror: Mirror, release: Upstream
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=HALF)
    before = asyncio.all_tasks()
    talks = [await Talk.dial(mirror.address) for _ in range(100)]
    for talk in talks:
        await talk.send(request("GET", path))
    await mirror.until(lambda: mirror.active == 100)
    theirs = {task for task in asyncio.all_tasks() - before if "RequestHandler" in repr(task)}
    assert len(theirs) >= 100
    for i, talk in enumerate(talks):
        talk.close(reset=i % 2 == 0)
    await asyncio.wait(theirs, timeout=10)
    assert not [task for task in theirs if not task.done()]
    gate.open()
    assert (await mirror.get(path)).body == BODY
    assert len(release.requests(PAYLOAD_PATH, "GET")) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [(CHECK, 200), (HEALTH, 200), (request("GET", "/nothing"), 404)],
    ids=["check", "health", "nothing"],
)
async def test_a_client_that_sends_no_more_gets_its_answer_and_the_end(
    mirror: Mirror, sent: bytes, status: int
) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(sent)
        talk.sock.shutdown(socket.SHUT_WR)
        assert (await talk.answer()).status == status
        assert await talk.rest() == b""


async def test_half_a_body_and_the_end_is_no_request(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(CHECK[:-9])
        talk.sock.shutdown(socket.SHUT_WR)
        assert await talk.rest() == b""


# What is no HTTP


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /%s%d%(x)s HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon %s\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[31mred\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 1000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:24]),
)
async def test_what_is_no_http_costs_one_line_in_the_log(
    mirror: Mirror, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with capture_logs() as logs, caplog.at_level(logging.DEBUG):
        async with dial(mirror.address) as talk:
            await talk.send(sent)
            answer = await talk.answer()
            await talk.rest()
    assert answer.status == 400
    assert answer.line
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("bad HTTP", "info")]
    assert all(str(value).isprintable() for value in logs[0].values())
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []
    async with dial(mirror.address) as talk:
        assert await alive(talk)
