"""Listening on sockets that somebody else holds: a restart refuses nobody."""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.load import CLIENTS, Load
from tests.support.mirror import PAYLOAD_PATH, real_payload, settings
from tests.support.ports import free_address
from tests.support.talk import Talk, ask, dial, request
from tests.support.upstream import Upstream
from tests.systemd.manager import SocketUnit, address_of, listening

HALF = 2_000_000
RESTARTS = 3
needs_socket_activate = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None,
    reason="systemd-socket-activate is missing: apt-get install systemd",
)


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.put(PAYLOAD_PATH, real_payload())
    return upstream


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_under_load_refuses_nobody_and_an_orderly_one_loses_nobody(
    tmp_path: Path, release: Upstream, number: signal.Signals
) -> None:
    with listening() as sock:
        async with SocketUnit(tmp_path, release.origin, {"omaha": sock}) as unit:
            await unit.start()
            load = Load(unit)
            running = asyncio.create_task(load.run())
            for _ in range(RESTARTS):
                await load.more()
                assert unit.process is not None
                unit.process.send_signal(number)
                await unit.ended()
                await unit.start()
            await load.more()
            load.stop()
            await running
    assert load.refused == 0
    assert load.lost == 0 or (number == signal.SIGKILL and load.lost <= RESTARTS * CLIENTS)


async def test_a_download_that_a_restart_cuts_goes_on_at_the_client(
    tmp_path: Path, release: Upstream
) -> None:
    # Nothing but its digest tells whether it is right, so nothing of it waits for an operation.
    payload = random.Random(1).randbytes(2 * HALF)
    release.put(PAYLOAD_PATH, payload)
    with listening() as sock:
        async with SocketUnit(tmp_path, release.origin, {"omaha": sock}) as unit:
            await unit.start()
            path = await unit.payload()
            gate = release.hold(PAYLOAD_PATH, at=HALF)
            async with dial(unit.address) as talk:
                await talk.send(request("GET", path))
                await talk.head()
                got = await talk.read(HALF)
                assert unit.process is not None
                unit.process.kill()
                got += await talk.rest()
            again = asyncio.create_task(unit.get(path, Range=f"bytes={len(got)}-"))
            await unit.ended()
            gate.open()
            await unit.start()
            answer = await again
    assert answer.status == 206
    assert got + answer.body == payload
    assert 0 < len(got) < len(payload)


async def test_the_admin_listener_takes_the_socket_of_its_name(
    tmp_path: Path, release: Upstream
) -> None:
    with listening() as public, listening() as admin:
        async with SocketUnit(tmp_path, release.origin, {"omaha": public, "admin": admin}) as unit:
            await unit.start()
            assert (await unit.get("/healthz")).status == 200
            host = {"Host": str(address_of(admin))}
            assert (await ask(address_of(admin), "GET", "/readyz", host)).status == 200
            assert (await unit.get("/readyz")).status == 404


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("tcp", "web", "FileDescriptorName= of the socket unit must be omaha or admin"),
        ("udp", "omaha", "the omaha socket from systemd does not listen on a TCP port"),
        ("connected", "omaha", "the omaha socket from systemd does not listen on a TCP port"),
        ("everywhere", "admin", "is not loopback: with it, set admin.token_file"),
    ],
)
async def test_a_socket_that_cannot_be_used_is_told_to_people(
    tmp_path: Path, release: Upstream, kind: str, name: str, words: str
) -> None:
    other = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    with listening() as public, other:
        other.bind(("0.0.0.0" if kind == "everywhere" else "127.0.0.1", 0))
        if kind in ("tcp", "everywhere"):
            other.listen()
        sockets = {name: other} if name == "omaha" else {"omaha": public, name: other}
        async with SocketUnit(tmp_path, release.origin, sockets) as unit:
            await unit.start()
            code, said = await unit.ended()
    assert code == 1
    assert words in said
    assert "Traceback" not in said


async def test_sockets_for_another_process_are_left_alone(
    tmp_path: Path, release: Upstream
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path, release.origin)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omaha_mirror", "serve"),
        *("--config", str(tmp_path / "config.yaml")),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"},
    )
    assert process.stderr is not None
    said = await process.stderr.readline()
    assert b"listens on http://127.0.0.1:" in said
    process.terminate()
    await process.communicate()


@needs_socket_activate
async def test_systemds_own_program_starts_it_at_the_first_connection(
    tmp_path: Path, release: Upstream
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path, release.origin)))
    address = free_address()
    process = await asyncio.create_subprocess_exec(
        *("systemd-socket-activate", "-l", str(address), "--fdname=omaha"),
        *("-E", "PYTHONPATH", sys.executable, "-m", "omaha_mirror", "serve"),
        *("--config", str(tmp_path / "config.yaml")),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stderr is not None
        assert b"Listening on" in await process.stderr.readline()
        talk = await Talk.dial(address)
        await talk.send(request("GET", "/healthz"))
        assert (await talk.answer()).body == b"ok\n"
        talk.close()
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
