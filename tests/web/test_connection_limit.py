"""The limit of connections: which are accepted, and which are closed."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import pytest
from aiohttp import StreamReader, web
from structlog.testing import capture_logs

from omaha_mirror.cache import Window
from omaha_mirror.config import Address
from omaha_mirror.web import connection, public, server, slow_clients
from omaha_mirror.web.connection import Connection
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.server import Listener
from tests.support.mirror import PAYLOAD_PATH, Mirror, mirror_in_process, omaha, public_app
from tests.support.talk import PATIENCE, Talk, dial, request
from tests.support.upstream import Upstream
from tests.web.conftest import BODY
from tests.web.secure import ask_tls, listening, secure_settings

GREEDY, OTHER, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
LIMIT = 4
HEALTH = request("GET", "/healthz")
LARGE = bytes(12 * 1024 * 1024)
"""More than the kernel holds for a client that does not read."""
LARGE_PART = 256 * 1024


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few connections, none to spare, and all are looked at often."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", LIMIT)
    monkeypatch.setattr(server, "SPARE", 0)
    monkeypatch.setattr(slow_clients, "ROUND", 0.05)


@pytest.fixture
async def mirror(release: Upstream, tmp_path: Path) -> AsyncIterator[Mirror]:
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        yield mirror


@asynccontextmanager
async def serving(
    mirror: Mirror, settings: PublicSettings | None = None, limit: int = LIMIT
) -> AsyncIterator[Address]:
    """The mirror at another listener of its own."""
    settings = settings or PublicSettings()
    listener = Listener(public_app(mirror.service, settings), settings.trusts, limit)
    [address] = await listener.start([Address("127.0.0.1", 0)])
    try:
        yield address
    finally:
        await listener.stop()


@asynccontextmanager
async def dialled(
    address: Address, source: str, count: int = LIMIT, buffer: int | None = None
) -> AsyncIterator[list[Talk]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(dial(address, source=source, buffer=buffer))
            for _ in range(count)
        ]


async def heard(talk: Talk, sent: bytes = HEALTH) -> bool:
    """Whether a request is answered, rather than the connection closed."""
    try:
        await talk.send(sent)
        return (await talk.answer()).status == 200
    except (ConnectionError, AssertionError):
        return False


async def ended(talk: Talk) -> bool:
    """Waits for the end of a connection on which nothing more comes."""
    try:
        return await talk.rest() == b""
    except ConnectionError:
        return True


async def gets_in(address: Address, source: str) -> None:
    """Try until a request is answered."""
    async with asyncio.timeout(PATIENCE):
        while not await asks(address, source):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def waiting(mirror: Mirror, release: Upstream) -> AsyncIterator[None]:
    """As many as there may be wait for the mirror, and get their package at the end."""
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=0)
    async with dialled(mirror.address, GREEDY) as talks:
        for talk in talks:
            await talk.send(request("GET", path))
        await mirror.until(lambda: mirror.active == LIMIT)
        yield
        gate.open()
        assert [(await talk.answer()).body for talk in talks] == [BODY] * LIMIT


async def asks(address: Address, source: str) -> bool:
    """Whether one request on a connection of its own is answered."""
    async with dial(address, source=source) as talk:
        return await heard(talk)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def test_one_address_may_have_them_all_until_another_asks(mirror: Mirror) -> None:
    async with dialled(mirror.address, GREEDY) as greedy:
        for talk in greedy:
            assert await heard(talk)
        assert await heard(greedy[0])
        async with dial(mirror.address, source=OTHER) as first:
            assert await heard(first)
            assert await ended(greedy[1])  # the one that was not used for longest
            async with dial(mirror.address, source=OTHER) as second:
                assert await heard(second)
                assert await ended(greedy[2])
                # Now it has as many itself.
                async with dial(mirror.address, source=OTHER) as third:
                    assert not await heard(third)
                assert [await heard(talk) for talk in (greedy[0], greedy[3])] == [True, True]
                # And of equals one makes room for an address that has none.
                async with dial(mirror.address, source=THIRD) as newcomer:
                    assert await heard(newcomer)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEALTH[:-2],
        request("POST", "/v1/update/", {"Content-Length": "1000"}),
        request("POST", "/v1/update/", {"Content-Length": "1000"}, omaha("request_check_first")),
        request(
            "POST", "/v1/update/", {"Transfer-Encoding": "chunked", "Content-Length": ""}
        ).replace(b"Content-Length: \r\n", b"")
        + b"1\r\n<\r\n",
    ],
    ids=["nothing", "half a head", "no body", "half a body", "a chunk"],
)
async def test_a_request_that_does_not_come_makes_room(mirror: Mirror, sent: bytes) -> None:
    async with dialled(mirror.address, GREEDY) as greedy:
        for talk in greedy:
            await talk.send(sent)
        async with dial(mirror.address, source=OTHER) as other:
            assert await heard(other)
            assert await ended(greedy[0])


async def test_a_handshake_counts_and_makes_room(mirror: Mirror) -> None:
    async with listening(mirror, secure_settings()) as (address, listener):
        async with dialled(address, GREEDY):
            await until(lambda: listener.connections == LIMIT)
            assert (await ask_tls(address, "GET", "/healthz")).status == 200
        await until(lambda: listener.connections == 0)


async def test_a_handshake_that_does_not_end_is_not_waited_for(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST", 0.1)
    async with (
        listening(mirror, secure_settings()) as (address, listener),
        dialled(address, GREEDY) as talks,
    ):
        for talk in talks:
            assert await ended(talk)
        assert listener.connections == 0


async def test_what_is_no_tls_costs_one_line(mirror: Mirror) -> None:
    with capture_logs() as logs:
        async with listening(mirror, secure_settings()) as (address, listener):
            for sent in (HEALTH, b"\x16\x03\x01" + bytes(200), HEALTH):
                async with dial(address) as talk:
                    await talk.send(sent)
                    await talk.rest()
            await until(lambda: listener.connections == 0)
    assert [(line["event"], line["remote"]) for line in logs] == [("no TLS", "127.0.0.1")]


async def test_who_waits_for_the_mirror_is_never_cut(mirror: Mirror, release: Upstream) -> None:
    async with waiting(mirror, release):
        for _ in range(3):
            async with dial(mirror.address, source=OTHER) as other:
                assert not await heard(other)


async def test_who_waits_for_a_late_refusal_makes_room(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "TOLERATED", 1)
    monkeypatch.setattr(public, "LATE", 60)
    monkeypatch.setattr(public, "LATEST", 60)
    nothing = request("GET", "/nothing")
    async with dialled(mirror.address, GREEDY) as greedy:
        await greedy[0].send(nothing)
        assert (await greedy[0].answer()).status == 404
        for talk in greedy:
            await talk.send(nothing)
        await mirror.until(lambda: mirror.active == LIMIT)
        async with dial(mirror.address, source=OTHER) as other:
            assert await heard(other)
            assert await ended(greedy[0])
            await mirror.until(lambda: mirror.active == LIMIT - 1)
    await mirror.until(lambda: mirror.active == 0)  # who leaves waits no longer


async def test_who_does_not_read_is_cut_and_who_reads_is_not(
    mirror: Mirror, release: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "WINDOW", 1.5)
    release.put(PAYLOAD_PATH, LARGE)
    path = await mirror.payload()
    assert len((await mirror.get(path)).body) == len(LARGE)
    cut = asyncio.Event()
    async with (
        dial(mirror.address, source=GREEDY, buffer=LARGE_PART) as reads,
        dialled(mirror.address, GREEDY, LIMIT - 1, buffer=4096) as talks,
    ):
        for talk in (reads, *talks):
            await talk.send(request("GET", path))
            await talk.head()

        async def read_on() -> int:
            """With time for all else, until somebody else was cut."""
            count = 0
            while not cut.is_set():
                count += len(await reads.read(LARGE_PART // 16))
                await asyncio.sleep(0.01)
            return count + len(await reads.read(len(LARGE) - count))

        reading = asyncio.create_task(read_on())
        await gets_in(mirror.address, OTHER)
        cut.set()
        assert await reading == len(LARGE)
        await mirror.until(lambda: mirror.active == LIMIT - 2)


async def test_an_address_without_any_may_have_a_spare_one_until_it_is_known_who_is_slow(
    mirror: Mirror, release: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SPARE", 1)
    async with waiting(mirror, release), dial(mirror.address, source=OTHER) as other:
        assert await heard(other)
        async with dial(mirror.address, source=GREEDY) as one_more:
            assert not await heard(one_more)


async def test_behind_a_proxy_the_client_that_it_names_counts(
    mirror: Mirror, release: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "WINDOW", 0.5)
    release.put(PAYLOAD_PATH, LARGE)
    path = await mirror.payload()
    assert len((await mirror.get(path)).body) == len(LARGE)
    slow = request("GET", path, {"X-Forwarded-For": "192.0.2.1"})
    quick = request("GET", "/healthz", {"X-Forwarded-For": "192.0.2.9"})
    async with (
        serving(mirror, PublicSettings(trusted=(ip_network(f"{GREEDY}/32"),))) as address,
        dialled(address, GREEDY, 1) as [idle],
        dialled(address, GREEDY, LIMIT - 1, buffer=4096) as talks,
    ):
        assert await heard(idle, quick)
        for talk in talks:
            await talk.send(slow)
            await talk.head()
        await gets_in(address, OTHER)
        # None of the proxy's was closed but one that serves the slow client.
        assert await heard(idle, quick)


async def test_a_flood_is_told_in_two_lines(mirror: Mirror) -> None:
    with capture_logs() as logs:
        async with dialled(mirror.address, GREEDY, 100) as talks:
            for talk in talks[LIMIT:]:
                assert await ended(talk)
            for _ in range(20):
                async with dial(mirror.address, source=OTHER) as other:
                    assert await heard(other)
    assert sorted(line["event"] for line in logs) == [
        "too many connections: a new one is refused",
        "too many connections: one that is idle or slow is closed",
    ]


# Bytes that are held for slow clients


@pytest.mark.parametrize("trusted", [(), (ip_network(f"{GREEDY}/32"),)], ids=["client", "proxy"])
async def test_half_sent_bodies_are_bounded_in_all(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, trusted: tuple[IPv4Network, ...]
) -> None:
    """Those of a proxy too, where it names no client."""
    monkeypatch.setattr(connection, "HELD", 1_000_000)
    body = omaha("request_check_first")
    head = request("POST", "/v1/update/", {"Content-Length": "60000"})
    async with (
        serving(mirror, PublicSettings(trusted=trusted), limit=1000) as address,
        dial(address, source=OTHER) as mine,
        dialled(address, GREEDY, 50) as talks,
    ):
        whole = request("POST", "/v1/update/", {"Content-Length": str(len(body))}, body)
        await mine.send(whole[:-9])
        for talk in talks:
            with suppress(ConnectionError):
                await talk.send(head + bytes(50_000))
        # Who holds most is cut, the oldest first; who holds little is not.
        assert await ended(talks[0])
        await mine.send(whole[-9:])
        assert (await mine.answer()).status == 200


SENT = {
    "half a head": b"POST /v1/update/ HTTP/1.1\r\nHost: a\r\nX: " + bytes(b"x" * 5000),
    "half a body": request("POST", "/v1/update/", {"Content-Length": "60000"}) + bytes(50_000),
    "half a chunk": b"POST /v1/update/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"ffff\r\n" + bytes(50_000),
    "a request": request("GET", "/healthz"),
    "many requests": request("GET", "/healthz") * 100,
    "a body that nobody reads": request("PUT", "/healthz", {"Content-Length": "60000"})
    + bytes(50_000),
    "a package that is not here": request("GET", PAYLOAD_PATH),
    "no HTTP": b"nonsense\r\n\r\n",
    "chunks that are none": b"POST /v1/update/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"zz\r\n" + bytes(50_000),
}


@pytest.fixture
async def uncollected(mirror: Mirror) -> AsyncIterator[Callable[..., int]]:
    """Counts objects of a kind, and bodies that belong to one: garbage is collected seldom in a process that serves."""

    def count(kind: type = Connection) -> int:
        found = (it._protocol if isinstance(it, StreamReader) else it for it in gc.get_objects())
        return sum(isinstance(it, kind) for it in found)

    gc.collect()
    gc.freeze()  # what is here is not gone through again
    gc.disable()
    try:
        yield count
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_a_connection_that_is_gone_holds_no_memory(
    mirror: Mirror, uncollected: Callable[..., int], sent: bytes
) -> None:
    async with serving(mirror, limit=1000) as address:
        before = uncollected()
        async with dialled(address, GREEDY, 3) as talks:
            for talk in talks:
                await talk.send(sent)
            await until(lambda: uncollected() >= before + 3)
        await until(lambda: uncollected() <= before + 1)  # the one that was looked at last


async def test_requests_that_nobody_answered_hold_no_memory(
    mirror: Mirror, release: Upstream, uncollected: Callable[..., int]
) -> None:
    gate = release.hold(f"{PAYLOAD_PATH}.sha256")
    waits = request("GET", PAYLOAD_PATH)
    asks = request("POST", "/v1/update/", {}, omaha("request_check_first"))
    async with serving(mirror, limit=1000) as address:
        before = uncollected()
        async with dialled(address, GREEDY, 3) as talks:
            for talk in talks:
                await talk.send(waits + 10 * asks)
            await gate.reached()
            await until(lambda: uncollected() >= before + 30)
            for talk in talks:
                talk.close(reset=True)
            await until(lambda: uncollected() <= before + 1)


async def test_a_client_that_leaves_a_package_holds_no_memory(
    mirror: Mirror, release: Upstream, uncollected: Callable[..., int]
) -> None:
    release.put(PAYLOAD_PATH, LARGE)
    assert (await mirror.get(PAYLOAD_PATH)).status == 200
    async with serving(mirror, limit=1000) as address:
        before = uncollected(Window)
        async with dialled(address, GREEDY, 3, buffer=LARGE_PART) as talks:
            for talk in talks:
                await talk.send(request("GET", PAYLOAD_PATH))
                await talk.head()
        await until(lambda: uncollected(Window) <= before + 1)


async def test_what_is_no_tls_holds_no_memory(
    mirror: Mirror, uncollected: Callable[..., int]
) -> None:
    async with listening(mirror, secure_settings()) as (address, _):
        before = uncollected()
        async with dialled(address, GREEDY, 3) as talks:
            for talk in talks:
                await talk.send(HEALTH)
                await talk.rest()
        await until(lambda: uncollected() <= before + 1)


async def test_answers_that_are_not_read_are_bounded_in_all(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HELD", 30_000_000)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=LARGE)

    listener = Listener(answer)
    [address] = await listener.start([Address("127.0.0.1", 0)])
    try:
        async with (
            dial(address, source=OTHER) as mine,
            dialled(address, GREEDY, 8, buffer=4096) as talks,
        ):
            for talk in talks:
                await talk.send(HEALTH)
            await until(lambda: listener.connections < 8)
            await mine.send(HEALTH)
            assert (await mine.answer()).body == LARGE
    finally:
        await listener.stop()
