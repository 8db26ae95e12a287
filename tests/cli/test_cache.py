"""The cache commands: the same on a running mirror and on the directory of a stopped one."""

import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Done, run
from tests.support.mirror import PAYLOAD, PAYLOAD_PATH, VERSION, MirrorProcess
from tests.support.talk import dial, request
from tests.support.upstream import Upstream

pytestmark = pytest.mark.long

BODY = os.urandom(300_000)
KEY = sha256(BODY).hexdigest()
WEEK = 7 * 86400


class Box:
    """A mirror's directories, with one package."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.blob = directory / "cache" / "blobs" / KEY[:2] / KEY

    def process(self, **changes: Any) -> MirrorProcess:
        return MirrorProcess(self.directory, self.upstream.origin, **changes)

    async def cache(self, *args: str) -> Done:
        """`omaha-mirror cache ...`"""
        return await run(self.directory, "cache", *args)

    def files(self) -> set[str]:
        root = self.directory / "cache"
        return {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}

    def everything(self) -> dict[str, tuple[int, float, bytes]]:
        """All files and folders: which they are, when they were written, and what is in them."""
        return {
            str(path): (
                (status := path.stat()).st_ino,
                status.st_mtime,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in self.directory.rglob("*")
        }

    def rot(self) -> None:
        with self.blob.open("r+b") as file:
            file.write(b"rotten")

    def stale(self) -> None:
        """Something that has lain about for more than a week."""
        for name in ("partial/ab12cd34.data", "partial/ab12cd34.json"):
            path = self.directory / "cache" / name
            path.write_bytes(b"x")
            os.utime(path, (time.time() - WEEK - 60,) * 2)


@pytest.fixture
async def box(upstream: Upstream, tmp_path: Path) -> Box:
    upstream.put(PAYLOAD_PATH, BODY)
    box = Box(tmp_path, upstream)
    async with box.process() as process:
        assert (await process.get(await process.payload())).body == BODY
        await process.logged("fill ended")
        assert await process.terminate() == 0
    return box


@pytest.fixture(params=["running", "stopped"])
async def kept(request: pytest.FixtureRequest, box: Box) -> AsyncIterator[Box]:
    """Both ways to reach it."""
    if request.param == "stopped":
        yield box
        return
    async with box.process():
        yield box


async def test_ls_tells_what_is_here_and_why_it_stays(kept: Box) -> None:
    done = await kept.cache("ls", "--json")
    assert (done.status, done.err) == (0, "")
    [blob] = done.json["blobs"]
    assert (blob["key"], blob["size"], blob["offered"]) == (KEY, len(BODY), True)
    assert blob["source"] == kept.upstream.url(PAYLOAD_PATH)
    people = await kept.cache("ls")
    assert people.status == 0
    for words in (KEY[:12], f"{VERSION}/{PAYLOAD}", "300.0 kB", "sha256", "offered"):
        assert words in people.out


async def test_a_running_and_a_stopped_mirror_tell_the_same(box: Box) -> None:
    stopped = (await box.cache("ls", "--json")).json
    async with box.process():
        running = (await box.cache("ls", "--json")).json
    free = {stopped.pop("free"), running.pop("free")}
    assert stopped == running
    assert all(value > 0 for value in free)


@pytest.mark.parametrize("name", [(), (KEY[:6],), (f"{VERSION}/{PAYLOAD}",)])
async def test_what_is_right_verifies(box: Box, name: tuple[str, ...]) -> None:
    done = await box.cache("verify", *name)
    assert (done.status, done.out) == (0, f"right   {PAYLOAD_PATH[1:]}\n")


async def test_rot_is_told_and_fetched_again(kept: Box) -> None:
    kept.rot()
    done = await kept.cache("verify", "--json")
    [verdict] = done.json["verdicts"]
    assert (done.status, verdict["key"], verdict["outcome"]) == (4, KEY, "wrong")
    assert "SHA-256" in verdict["reason"]
    assert not kept.blob.exists()
    contents = (await kept.cache("ls", "--json")).json
    assert [x["kind"] for x in contents["leftovers"]] == ["quarantine"]
    assert contents["blobs"] == []


async def test_after_rot_the_next_machine_gets_the_right_bytes(box: Box) -> None:
    async with box.process() as process:
        box.rot()
        assert (await box.cache("verify")).status == 4
        assert (await process.get(await process.payload())).body == BODY
    assert box.upstream.bytes_sent(PAYLOAD_PATH) == 2 * len(BODY)


async def test_the_mirror_finds_rot_by_itself(box: Box) -> None:
    box.rot()
    os.utime(box.blob.with_suffix(".json"), (1, 1))
    async with box.process() as process:
        assert KEY in await process.logged("a cached file is corrupted")
        assert (await process.get(await process.payload())).body == BODY


async def test_gc_sweeps_what_is_stale_and_keeps_what_is_offered(kept: Box) -> None:
    kept.stale()
    before = kept.files()
    swept = [{"kind": "partial", "key": "ab12cd34"}]
    for dry_run in (True, False):
        assert kept.files() == before
        done = await kept.cache("gc", "--json", *(["--dry-run"] if dry_run else []))
        assert (done.status, done.json["dry_run"], done.json["short"]) == (0, dry_run, "")
        assert [{"kind": x["kind"], "key": x["key"]} for x in done.json["removed"]] == swept
    assert before - kept.files() == {"partial/ab12cd34.data", "partial/ab12cd34.json"}
    assert (await kept.cache("gc")).out == "nothing to remove\n"


@pytest.mark.parametrize("args", [("ls",), ("gc", "--dry-run"), ("rm", "--dry-run", KEY)])
async def test_a_look_at_a_stopped_mirror_changes_no_file(box: Box, args: tuple[str, ...]) -> None:
    box.stale()
    (box.directory / "cache" / "partial" / "without-data.json").write_text("a start sweeps it")
    before = box.everything()
    assert (await box.cache(*args)).status == 0
    assert box.everything() == before


async def test_where_nobody_knows_what_is_offered_nothing_is_removed(box: Box) -> None:
    catalog = box.directory / "state" / "catalog.json"
    catalog.write_text("{")
    before = box.everything()
    done = await box.cache("gc")
    assert done.status == 1
    assert f"{catalog} cannot be used" in done.err
    assert "start the mirror" in done.err
    assert box.everything() == before


async def test_rm_removes_and_a_trial_does_not(kept: Box) -> None:
    trial = await kept.cache("rm", "--dry-run", KEY[:8])
    assert trial.out.startswith(f"would remove blob {KEY}, ")
    assert kept.blob.exists()
    done = await kept.cache("rm", "--json", KEY[:8], PAYLOAD)
    assert done.status == 0
    assert done.json["removed"] == [{"kind": "blob", "key": KEY, "size": len(BODY)}]
    assert not kept.blob.exists()
    assert (await kept.cache("ls", "--json")).json["blobs"] == []


async def test_an_unknown_key_removes_nothing(kept: Box) -> None:
    for unknown in ("00000000", KEY[:5], "other.gz", "../../etc/passwd", ""):
        done = await kept.cache("rm", KEY, unknown)
        assert (done.status, done.out) == (3, "")
        assert "is not in the cache" in done.err
    assert kept.blob.exists()


async def test_what_is_being_read_is_not_removed(box: Box, upstream: Upstream) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    async with box.process() as process:
        path = await process.payload()
        assert (await box.cache("rm", KEY)).status == 0
        gate = upstream.hold(PAYLOAD_PATH, at=100_000)
        async with dial(process.address) as talk:
            await talk.send(request("GET", path))
            await talk.head()
            await gate.reached()
            done = await box.cache("rm", KEY)
            assert done.status == 1
            assert "in use" in done.err
            gate.open()
            assert await talk.read(len(BODY)) == BODY


async def test_a_second_mirror_on_one_directory_is_refused(box: Box) -> None:
    async with box.process() as process:
        second = await run(box.directory, "serve")
        assert second.status == 1
        [line] = second.err.splitlines()
        assert f"is in use by process {process._process.pid}" in line
        assert (await process.get(await process.payload())).body == BODY


async def test_a_mirror_without_admin_listener_is_not_worked_around(box: Box) -> None:
    async with box.process(admin={"listen": []}):
        done = await box.cache("rm", KEY)
        assert done.status == 1
        assert "admin.listen" in done.err
    assert box.blob.exists()


async def test_without_the_right_token_nothing_is_removed(box: Box) -> None:
    async with box.process():
        token = box.directory / "state" / "admin-token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text().strip()) == 32
        token.write_text("another\n")
        done = await box.cache("rm", KEY)
        assert done.status == 1
        assert "token" in done.err
        token.unlink()
        done = await box.cache("ls")
        assert done.status == 1
        assert str(token) in done.err
    assert box.blob.exists()


async def test_the_token_that_systemd_gives_the_mirror_is_the_one_that_is_used(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "admin-token").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    async with box.process():
        assert (await box.cache("rm", KEY)).status == 0
    assert not box.blob.exists()


async def test_the_token_stays_the_same_after_a_restart(box: Box) -> None:
    token = (box.directory / "state" / "admin-token").read_text()
    async with box.process():
        assert (await box.cache("rm", KEY)).status == 0
    assert (box.directory / "state" / "admin-token").read_text() == token


async def test_no_cache_is_an_error_and_makes_none(tmp_path: Path) -> None:
    MirrorProcess(tmp_path, "http://127.0.0.1:1")
    done = await Box(tmp_path, Upstream()).cache("ls")
    assert done.status == 1
    assert f"there is no cache at {tmp_path}/cache" in done.err
    assert not (tmp_path / "cache").exists()
