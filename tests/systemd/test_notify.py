"""What systemd is told, and when."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from omaha_mirror.cli import supervision
from omaha_mirror.cli.supervision import answers, sentence, status, supervised
from omaha_mirror.systemd import Notifier, watchdog
from omaha_mirror.web import server
from tests.support.mirror import PAYLOAD_PATH, MirrorProcess, mirror_in_process, settings
from tests.support.ports import free_address
from tests.support.talk import dial, request
from tests.support.upstream import Upstream
from tests.systemd.manager import NotifySocket, address_of, listening


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@omaha-{os.getpid()}"
    with NotifySocket(name) as manager:
        yield manager


def notifier(manager: NotifySocket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.name})


# A whole life


async def test_ready_reload_and_stop_are_told_by_the_mirror_as_they_happen(
    manager: NotifySocket, tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    address = free_address()
    async with MirrorProcess(tmp_path, upstream.origin, listen=[str(address)]) as mirror:
        assert await manager.next() == {"READY": "1"}
        async with dial(address):
            pass
        assert await manager.next() == {"STATUS": "Fetching nothing; nothing was served yet."}
        await manager.until("WATCHDOG")
        for config in (mirror.config, "nonsense: 1"):
            before = time.monotonic_ns() // 1000
            mirror.reload(config)
            messages = await manager.until("RELOADING")
            assert before <= int(messages["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert await manager.until("READY") == {"READY": "1"}
        assert await mirror.terminate() == 0
    assert await manager.until("STOPPING") == {"STOPPING": "1"}
    assert manager.waiting() == []


async def test_a_mirror_that_cannot_listen_is_never_ready(
    manager: NotifySocket, tmp_path: Path, upstream: Upstream
) -> None:
    with listening() as taken:
        changes = {"listen": [str(address_of(taken))]}
        (tmp_path / "config.yaml").write_text(
            yaml.safe_dump(settings(tmp_path, upstream.origin, **changes))
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "omaha_mirror", "serve"),
            *("--config", str(tmp_path / "config.yaml")),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NOTIFY_SOCKET": manager.name},
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"cannot listen on" in said
    assert manager.waiting() == []


# The notifier


def test_a_manager_that_is_gone_is_no_reason_to_stop(tmp_path: Path) -> None:
    with capture_logs() as logs:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert [(entry["event"], entry["message"]) for entry in logs] == [
        ("cannot notify systemd", "READY=1")
    ]


def test_without_a_manager_nobody_is_told() -> None:
    with capture_logs() as logs:
        Notifier({}).ready()
    assert logs == []


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_only_if_it_is_meant_for_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert watchdog(environ) == seconds


# The watchdog


async def test_a_listener_that_takes_no_connections_is_not_alive(manager: NotifySocket) -> None:
    """The kernel completes connections all the while: only an answer tells."""
    checked = asyncio.Event()
    with listening() as dead:
        dead.setblocking(False)
        with capture_logs() as logs:
            async with supervised(notifier(manager), 1.6, address_of(dead), lambda: ""):
                assert await manager.next() == {"READY": "1"}
                for _ in range(2):
                    taken, _ = await asyncio.get_running_loop().sock_accept(dead)
                    with taken:
                        await asyncio.get_running_loop().sock_recv(taken, 1000)
                        assert await asyncio.get_running_loop().sock_recv(taken, 1) == b""
                checked.set()
                assert manager.waiting() == []
                server = await asyncio.start_server(_healthy, sock=dead)
                assert await manager.next() == {"WATCHDOG": "1"}
                server.close()
                await server.wait_closed()
    assert checked.is_set()
    assert {entry["event"] for entry in logs} == {"the mirror does not answer its own check"}


async def _healthy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("answer", "alive"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 500 Oh\r\n\r\n", False), (b"", True)],
    ids=["answered", "broken", "turned away"],
)
async def test_only_a_connection_that_was_heard_is_a_sign_of_life(
    answer: bytes, alive: bool
) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        address = address_of(server.sockets[0])
        assert await answers(address, 5) is alive
    assert await answers(address, 5) is False


async def test_a_full_house_is_no_reason_to_be_restarted(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    async with (
        mirror_in_process(tmp_path, upstream.origin) as mirror,
        dial(mirror.address) as talk,
    ):
        await talk.send(request("GET", "/healthz"))
        assert (await talk.answer()).status == 200
        for _ in range(10):
            assert await answers(mirror.address, 5)


async def test_a_mirror_on_every_interface_is_asked_over_loopback(
    upstream: Upstream, tmp_path: Path
) -> None:
    async with mirror_in_process(tmp_path, upstream.origin, listen=["0.0.0.0:0"]) as mirror:
        assert mirror.address.host == "0.0.0.0"
        assert await answers(mirror.address, 5)


# The status


async def test_the_status_is_told_again_only_when_it_has_changed(
    manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STATUS_EVERY", 0.001)
    sentences = iter(["a", "a", "a", "b", "b"])
    with listening() as sock:
        async with supervised(
            notifier(manager), None, address_of(sock), lambda: next(sentences, "c")
        ):
            messages = [await manager.next() for _ in range(4)]
    assert messages == [{"READY": "1"}, {"STATUS": "a"}, {"STATUS": "b"}, {"STATUS": "c"}]
    assert manager.waiting() == [b"STOPPING=1"]


@pytest.mark.parametrize(
    ("fills", "fetched", "served", "expected"),
    [
        (0, 0, 0, "Fetching nothing; nothing was served yet."),
        (1, 5_000, 0, "Fetching 1 package; nothing was served yet."),
        (2, 5_000, 1_000, "Fetching 2 packages; 1.0 kB served, 0% of it from the cache."),
        (0, 500_000, 10_000_000, "Fetching nothing; 10.0 MB served, 95% of it from the cache."),
    ],
)
def test_the_status_is_a_sentence(fills: int, fetched: int, served: int, expected: str) -> None:
    assert sentence(fills, fetched, served) == expected


async def test_the_status_counts_what_the_mirror_does(upstream: Upstream, tmp_path: Path) -> None:
    upstream.put(PAYLOAD_PATH, bytes(1_000_000))
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        gate = upstream.hold(PAYLOAD_PATH, at=500_000)
        path = await mirror.payload()
        getting = asyncio.create_task(mirror.get(path))
        await gate.reached()
        assert status(mirror.service).startswith("Fetching 1 package;")
        gate.open()
        await getting
        for _ in range(3):
            await mirror.get(path)
        await mirror.until(lambda: not mirror.service.cache.fills())
        assert (
            status(mirror.service) == "Fetching nothing; 4.0 MB served, 75% of it from the cache."
        )
