"""The admin listener: who may see and do what, and what they are told."""

import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror import config
from omaha_mirror.config import Address
from omaha_mirror.web import sendfile
from omaha_mirror.web.admin import tracks_api
from omaha_mirror.web.admin.answers import as_long_json
from omaha_mirror.web.admin.app import AdminApp, admin_routes
from omaha_mirror.web.server import Listener
from tests.support.mirror import PAYLOAD, PAYLOAD_PATH, VERSION, Mirror
from tests.support.talk import dial, request
from tests.support.upstream import Status, Upstream
from tests.web.asking import BEARER, TOKEN, Admin, error
from tests.web.conftest import BODY

CHANGES = [("POST", "/api/v1/cache/verify"), ("POST", "/api/v1/cache/gc")]
CHANGES += [("POST", "/api/v1/sync"), ("POST", "/api/v1/fetch")]
CHANGES += [("DELETE", f"/api/v1/cache/{'ab' * 32}")]
SEEN = [("GET", f"/api/v1/{name}") for name in ("cache", "fills", "tracks")]
SEEN += [("GET", "/metrics")]

Listen = Callable[..., Awaitable[Admin]]


@pytest.fixture
async def listen(mirror: Mirror) -> AsyncIterator[Listen]:
    """Listens on loopback, as if on the addresses of a config."""
    listeners: list[Listener] = []

    async def start(*configured: str) -> Admin:
        addresses = [Address.parse(text) for text in configured]
        app = AdminApp(admin_routes(mirror.service), TOKEN, addresses)
        listeners.append(Listener(app))
        [address] = await listeners[-1].start([Address("127.0.0.1", 0)])
        return Admin(address)

    yield start
    for listener in listeners:
        await listener.stop()


@pytest.fixture
async def admin(listen: Listen) -> Admin:
    """As by default."""
    return await listen("127.0.0.1:8001")


@pytest.fixture
async def key(mirror: Mirror) -> str:
    """A package that is here."""
    answer = await mirror.get(await mirror.payload())
    assert answer.body == BODY
    await mirror.until(lambda: bool(mirror.ended()))
    await mirror.until(lambda: mirror.active == 0)
    [key] = mirror.service.cache._ledger.entries
    return key


def rot(mirror: Mirror, key: str) -> None:
    path = mirror.service.config.cache.directory / "blobs" / key[:2] / key
    with path.open("r+b") as file:
        file.seek(len(BODY) // 2)
        file.write(b"\0rotten\0")


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("token", [None, "", "0123456789abcdee", "0123456789abcdef0", "\xe9"])
async def test_nothing_changes_without_the_token(
    admin: Admin, mirror: Mirror, key: str, method: str, path: str, token: str | None
) -> None:
    body: dict[str, str] | None = {} if method == "POST" else None
    answer = await admin.ask(method, path.replace("ab" * 32, key), body, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "token" in error(answer)
    assert mirror.service.cache.holds(key)


@pytest.mark.parametrize(("method", "path"), SEEN)
async def test_on_loopback_all_may_look(admin: Admin, method: str, path: str) -> None:
    assert (await admin.ask(method, path, token=None)).status == 200


@pytest.mark.parametrize("configured", [["0.0.0.0:8001"], ["127.0.0.1:8001", "192.0.2.1:8001"]])
async def test_beyond_loopback_only_readiness_is_told_without_the_token(
    listen: Listen, configured: list[str]
) -> None:
    admin = await listen(*configured)
    for method, path in [*SEEN, *CHANGES, ("GET", "/")]:
        assert (await admin.ask(method, path, token=None)).status == 401
    for method, path in SEEN:
        assert (await admin.ask(method, path)).status == 200
    assert (await admin.ask("GET", "/readyz", token=None)).status == 200


@pytest.mark.parametrize(
    ("configured", "host", "status"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001", 200),
        ("127.0.0.1:8001", "LOCALHOST", 200),
        ("[::1]:8001", "[::1]:9999", 200),
        ("127.0.0.1:8001", "evil.example:8001", 421),
        ("127.0.0.1:8001", "127.0.0.1.evil.example", 421),
        ("127.0.0.1:8001", "192.0.2.1:8001", 421),
        ("127.0.0.1:8001", "", 421),
        ("mirror.example:8001", "mirror.example:8001", 200),
        ("mirror.example:8001", "other.example:8001", 421),
        ("0.0.0.0:8001", "192.0.2.1:8001", 200),
        ("0.0.0.0:8001", socket.gethostname(), 200),
        ("0.0.0.0:8001", "evil.example", 421),
    ],
)
async def test_the_host_must_be_one_that_is_listened_on(
    listen: Listen, configured: str, host: str, status: int
) -> None:
    admin = await listen(configured)
    head = f"GET /api/v1/cache HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    async with dial(admin.address) as talk:
        await talk.send(head)
        assert (await talk.answer()).status == status


async def test_a_package_is_told_with_what_keeps_it(
    admin: Admin, release: Upstream, key: str
) -> None:
    reply = await admin.json("GET", "/api/v1/cache")
    [blob] = reply["blobs"]
    assert (blob["key"], blob["size"], blob["proven_by"]) == (key, len(BODY), "sha256")
    assert (blob["source"], blob["offered"]) == (release.url(PAYLOAD_PATH), True)
    assert (reply["used"], reply["leftovers"]) == (len(BODY), [])
    assert reply["free"] > 0


async def test_a_fill_is_told_while_it_runs(
    admin: Admin, mirror: Mirror, release: Upstream
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=100_000)
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        await gate.reached()
        [fill] = (await admin.json("GET", "/api/v1/fills"))["fills"]
        assert (fill["source"], fill["size"]) == (release.url(PAYLOAD_PATH), len(BODY))
        assert 0 < fill["filled"] <= 100_000
        assert (fill["readers"], fill["queued"]) == (1, 0)
        assert fill["rate"] > 0
        answer = await admin.ask("DELETE", f"/api/v1/cache/{fill['key']}")
        assert answer.status == 409
        assert "in use" in error(answer)
        gate.open()
    assert (await mirror.get(path)).body == BODY


@pytest.mark.parametrize("named", [True, False], ids=["named", "all"])
async def test_a_rotten_package_is_found_and_fetched_again(
    admin: Admin, mirror: Mirror, release: Upstream, key: str, named: bool
) -> None:
    body = {"keys": [key]} if named else None
    assert await verdicts(admin, body) == [(key, "right")]
    rot(mirror, key)
    assert await verdicts(admin, body) == [(key, "wrong")]
    assert [x["kind"] for x in (await admin.json("GET", "/api/v1/cache"))["leftovers"]] == [
        "quarantine"
    ]
    assert (await mirror.get(await mirror.payload())).body == BODY
    assert release.bytes_sent(PAYLOAD_PATH) == 2 * len(BODY)


async def lines(admin: Admin, path: str, body: Any) -> list[Any]:
    """What is told as it goes on, to its end."""
    async with dial(admin.address) as talk:
        sent = b"" if body is None else json.dumps(body).encode()
        headers = {"Host": "localhost", **BEARER, "Connection": "close"}
        await talk.send(request("POST", path, headers, sent))
        head = await talk.head()
        assert (head.status, head.headers["content-type"]) == (200, "application/x-ndjson")
        found = (await talk.rest()).decode().split("\r\n")
    assert found[-3:] == ["0", "", ""]
    return [json.loads(line) for line in found if line.startswith("{")]


async def verdicts(admin: Admin, body: Any) -> list[tuple[str, str]]:
    reply = await lines(admin, "/api/v1/cache/verify", body)
    return [(verdict["key"], verdict["outcome"]) for verdict in reply]


async def test_a_fetch_is_told_as_it_goes_on(
    admin: Admin, mirror: Mirror, release: Upstream
) -> None:
    reply = await lines(admin, "/api/v1/fetch", {"target": VERSION})
    assert reply[-1] == {
        "name": PAYLOAD,
        "size": len(BODY),
        "filled": len(BODY),
        "rate": 0.0,
        "done": True,
        "error": "",
    }
    assert (await mirror.get(f"/amd64-usr/{VERSION}/{PAYLOAD}")).body == BODY
    assert release.bytes_sent(PAYLOAD_PATH) == len(BODY)


async def test_an_upstream_that_cannot_say_is_a_bad_gateway(
    admin: Admin, release: Upstream
) -> None:
    release.fault(PAYLOAD_PATH, Status(503))
    answer = await admin.ask("POST", "/api/v1/fetch", {"target": VERSION})
    assert answer.status == 502
    assert "503" in error(answer)


async def test_where_no_track_is_followed_there_is_none_to_ask_about(admin: Admin) -> None:
    [stable] = (await admin.json("GET", "/api/v1/tracks"))["tracks"]
    assert (stable["track"], stable["channels"]) == ("stable", [])
    assert await admin.json("POST", "/api/v1/sync", {}) == {"tracks": []}


async def test_a_client_that_reads_a_rotten_package_is_cut(
    admin: Admin, mirror: Mirror, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.cache.reader.WINDOW", 64 * 1024)
    path = f"/amd64-usr/{VERSION}/{PAYLOAD}"
    async with dial(mirror.address, buffer=4096) as talk:
        fill_sockets_soon(monkeypatch)
        await talk.send(request("GET", path))
        got = await talk.read(20_000)
        rot(mirror, key)
        assert await verdicts(admin, None) == [(key, "wrong")]
        got += await talk.rest()
    assert b"\r\nContent-Length: %d\r\n" % len(BODY) in got
    assert len(got) < len(BODY)
    await mirror.until(lambda: mirror.active == 0)


def fill_sockets_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client that does not read stop its response early."""
    send_now = sendfile.send_now

    def send_few(connection: socket.socket, *part: Any) -> int:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return send_now(connection, *part)

    monkeypatch.setattr(sendfile, "send_now", send_few)


async def test_a_collection_can_be_tried_first(
    admin: Admin, mirror: Mirror, key: str, tmp_path: Path
) -> None:
    mirror.service.cache._ledger.max_size = 1
    reply = await admin.json("POST", "/api/v1/cache/gc", {"dry_run": True})
    assert (reply["dry_run"], reply["removed"]) == (True, [])
    assert "max_size" in reply["short"]
    mirror.service.cache._keep = lambda _: False
    gone = [{"kind": "blob", "key": key, "size": len(BODY)}]
    for dry_run in (True, False):
        assert mirror.service.cache.holds(key)
        reply = await admin.json("POST", "/api/v1/cache/gc", {"dry_run": dry_run})
        assert reply == {"dry_run": dry_run, "removed": gone, "short": ""}
    assert not mirror.service.cache.holds(key)


async def test_a_package_is_removed_once(admin: Admin, mirror: Mirror, key: str) -> None:
    assert (await admin.json("DELETE", f"/api/v1/cache/{key}"))["key"] == key
    answer = await admin.ask("DELETE", f"/api/v1/cache/{key}")
    assert answer.status == 404
    assert key in error(answer)
    assert (await mirror.get(await mirror.payload())).body == BODY


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/api/v1/cache/", None, 404),
        ("DELETE", "/api/v1/cache/..%2f..%2fetc", None, 404),
        ("DELETE", "/api/v1/cache/../../etc", None, 404),
        ("PUT", "/api/v1/cache", None, 405),
        ("GET", "/api/v1/cache/gc", None, 405),
        ("POST", "/api/v1/cache/gc", [], 400),
        ("POST", "/api/v1/cache/gc", {"dry_run": "yes"}, 400),
        ("POST", "/api/v1/cache/verify", {"keys": "all"}, 400),
        ("POST", "/api/v1/cache/verify", {"keys": ["ab" * 32]}, 404),
        ("POST", "/api/v1/cache/verify", {"keys": ["x" * 70_000]}, 413),
        ("POST", "/api/v1/sync", {"track": 1}, 400),
        ("POST", "/api/v1/sync", {"track": "nobody asked"}, 404),
        ("POST", "/api/v1/fetch", None, 400),
        ("POST", "/api/v1/fetch", {"target": VERSION, "board": "riscv"}, 400),
        ("POST", "/api/v1/fetch", {"target": "9999.0.0"}, 404),
        ("POST", "/api/v1/fetch", {"target": "held"}, 404),
    ],
)
async def test_a_mistake_is_one_line_of_json(
    admin: Admin, method: str, path: str, body: Any, status: int
) -> None:
    answer = await admin.ask(method, path, body)
    assert answer.status == status
    assert error(answer).isprintable()


async def test_what_one_path_takes_is_told(admin: Admin) -> None:
    answer = await admin.ask("POST", f"/api/v1/cache/{'ab' * 32}", {})
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE")


async def test_a_long_answer_is_made_in_a_worker() -> None:
    threads = []

    def make() -> dict[str, int]:
        threads.append(threading.get_ident())
        return {"a": 1}

    answer = await as_long_json(make)
    assert (answer.status, answer.body) == (200, b'{"a": 1}\n')
    assert threads != [threading.get_ident()]


async def test_all_tracks_are_described_in_a_worker(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    written = tracks_api.written

    def watched(rule: config.Track) -> Any:
        threads.add(threading.get_ident())
        return written(rule)

    monkeypatch.setattr(tracks_api, "written", watched)
    reply = await admin.json("GET", "/api/v1/tracks")
    assert [track["track"] for track in reply["tracks"]] == ["stable"]
    assert threads
    assert threading.get_ident() not in threads
