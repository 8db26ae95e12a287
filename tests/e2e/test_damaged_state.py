"""Whatever is in the state directory, the mirror starts, says what is wrong, and serves; two mirrors never share one."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from omaha_mirror.config import Address
from tests.support.mirror import (
    PAYLOAD_PATH,
    VERSION,
    Mirror,
    MirrorProcess,
    mirror_in_process,
    omaha,
    settings,
)
from tests.support.talk import PATIENCE, Answer, ask
from tests.support.upstream import Upstream

BODY = b"update" * 1000
MADE = ("admin-token", "catalog.json", "overrides.json", "overrides-copy.json", "relay.json")
"""What a mirror keeps, besides the secret and the outbox, which are made when they are needed."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def binary(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine").touch()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


async def admin(state: Path, method: str, path: str) -> Answer:
    """Ask the admin listener, whose address the lock tells, with the token."""
    at = json.loads((state / ".lock").read_text())["admin"]
    token = (state / "admin-token").read_text().strip()
    body = b"{}" if method == "POST" else b""
    headers = {"Host": at, "Authorization": f"Bearer {token}"}
    return await ask(Address.parse(at), method, path, headers, body)


async def asked_once(directory: Path, upstream: Upstream) -> Path:
    """A mirror that ran, with all its state; the directory of it."""
    state = directory / "state"
    async with mirror(directory, upstream) as running:
        await admin(state, "POST", "/api/v1/tracks/edge/hold")
        assert (await running.check()).status == 200
        assert await running.terminate() == 0
    for name in MADE:
        if not (state / name).exists():
            (state / name).write_text("{}")
    (state / "outbox").mkdir(exist_ok=True)
    (state / "outbox" / "000000000001.jsonl").write_text('{"done": 1}\n')
    return state


def mirror(directory: Path, upstream: Upstream, **changes: Any) -> MirrorProcess:
    # Its Omaha server answers 404: there is somebody to relay to, and to report to.
    omaha_url = {"omaha_url": f"{upstream.origin}/v1/update/"}
    tracks = {"stable": VERSION, "edge": VERSION}
    return MirrorProcess(directory, upstream.origin, upstream=omaha_url, tracks=tracks, **changes)


def slow(*damages: Callable[[Path], None]) -> list[Any]:
    return [pytest.param(damage, marks=pytest.mark.long) for damage in damages]


@pytest.mark.parametrize("damage", [binary, *slow(empty, cut, a_folder, a_pipe, a_loop)])
async def test_no_state_stops_a_start(
    tmp_path: Path, upstream: Upstream, damage: Callable[[Path], None]
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    state = await asked_once(tmp_path, upstream)
    for path in [*state.rglob("*")]:
        if path.is_file() and "fleet.db-" not in path.name:
            damage(path)
    async with mirror(tmp_path, upstream) as running:
        ready = json.loads((await admin(state, "GET", "/readyz")).body)
        assert (ready["ready"], ready["state"]) == (True, "degraded")
        assert [c["name"] for c in ready["checks"] if c["name"] == "overrides"] == ["overrides"]
        edge = omaha("request_check_first").replace(b'track="stable"', b'track="edge"')
        assert b"noupdate" in (await running.post(edge)).body
        released = await admin(state, "POST", "/api/v1/tracks/release")
        assert released.status == 200, released.body
        assert (await running.get(await running.payload())).body == BODY
        assert await running.terminate() == 0
        assert not [line for line in running.log if "Traceback" in line]
    token = state / "admin-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert list(state.glob("*.damaged"))


@pytest.mark.parametrize("damage", [binary, a_folder, cut])
async def test_a_damaged_fleet_database_is_made_anew(
    tmp_path: Path, upstream: Upstream, damage: Callable[[Path], None]
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    state = tmp_path / "state"
    async with mirror_in_process(tmp_path, upstream.origin) as first:
        await recorded(first)
    database = state / "fleet.db"
    damage(database)
    async with mirror_in_process(tmp_path, upstream.origin) as second:
        await recorded(second)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM machines").fetchone() == (1,)
    connection.close()
    assert [*state.glob("fleet*.damaged")]


async def recorded(mirror: Mirror) -> None:
    """Have a machine check, and wait until the register has it."""
    mirror.service.fleet_feed.recorder._retry = 0.01
    assert (await mirror.check()).status == 200
    async with asyncio.timeout(PATIENCE):
        await mirror.service.fleet_feed.recorder.flush()


@pytest.mark.parametrize(
    "command",
    [["serve"], pytest.param(["import", "bundle.tar"], marks=pytest.mark.long)],
    ids=str,
)
async def test_two_mirrors_do_not_share_a_state_directory(
    tmp_path: Path, upstream: Upstream, command: list[str]
) -> None:
    (tmp_path / "other").mkdir()
    async with mirror(tmp_path, upstream) as first:
        config = settings(tmp_path / "other", upstream.origin)
        config["state_directory"] = str(tmp_path / "state")
        path = tmp_path / "other" / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        (tmp_path / "other" / "bundle.tar").touch()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "omaha_mirror", *command, "--config", str(path)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path / "other",
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert f"{tmp_path / 'state'} is in use by process {first._process.pid}" in done.stderr


async def test_one_directory_for_both_is_no_second_mirror(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    changes = {"cache": {"directory": str(tmp_path / "state")}}
    async with mirror_in_process(tmp_path, upstream.origin, **changes) as running:
        assert (await running.get(await running.payload())).body == BODY


@pytest.mark.parametrize(
    "content",
    [
        "",
        None,
        *(pytest.param(text, marks=pytest.mark.long) for text in ("\0\n", "a\nb\n", "x" * 5000)),
    ],
    ids=["empty", "a folder", "binary", "two lines", "too long"],
)
async def test_a_token_file_of_the_operator_is_never_written_over(
    tmp_path: Path, upstream: Upstream, content: str | None
) -> None:
    token = tmp_path / "token"
    if content is None:
        token.mkdir()
    else:
        token.write_text(content)
    changed = {"listen": ["127.0.0.1:0"], "token_file": str(token)}
    async with mirror(tmp_path, upstream, admin=changed) as running:
        await running.logged(str(token))
        at = json.loads((tmp_path / "state" / ".lock").read_text())["admin"]
        place = Address.parse(at)
        for sent in ("", "a"):
            headers = {"Host": at, "Authorization": f"Bearer {sent}"}
            refused = await ask(place, "POST", "/api/v1/tracks/stable/hold", headers, b"{}")
            assert refused.status == 403
            assert str(token) in json.loads(refused.body)["error"]
        form = {"Host": at, "Content-Type": "application/x-www-form-urlencoded"}
        typed = await ask(place, "POST", "/actions/track", form, b"do=hold&track=stable&token=")
        assert typed.status == 403
        assert str(token) in typed.body.decode()
        ready = json.loads((await ask(place, "GET", "/readyz", {"Host": at})).body)
        assert [c["state"] for c in ready["checks"] if c["name"] == "token"] == ["degraded"]
    if content is None:
        assert token.is_dir()
    else:
        assert token.read_text() == content
