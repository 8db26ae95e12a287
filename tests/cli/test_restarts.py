"""The growing pause of a mirror that keeps dying."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
import yaml

from omaha_mirror.cli.supervision import LONGEST_PAUSE, Starts, pause
from tests.support.mirror import MirrorProcess, settings
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream


@pytest.mark.parametrize(
    ("starts", "seconds"),
    [
        ([], 0),
        ([999, 998], 0),
        ([999, 998, 997], 1),
        ([999, 998, 997, 996], 2),
        ([999, 998, 997, 996, 995, 994, 993], 16),
        ([999] * 9, LONGEST_PAUSE),
        ([999] * 100, LONGEST_PAUSE),
        ([100, 101, 102, 999], 0),
        ([5000, 5001, 5002, 999], 0),
    ],
    ids=["none", "two", "three", "four", "seven", "nine", "many", "long ago", "another boot"],
)
def test_the_pause_grows_with_the_starts_of_ten_minutes(
    starts: list[float], seconds: float
) -> None:
    assert pause(starts, 1000.0) == seconds


def test_starts_count_until_a_stop(tmp_path: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    assert [Starts(environ).begin() for _ in range(5)] == [0, 0, 0, 1, 2]
    Starts(environ).end()
    assert Starts(environ).begin() == 0


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"nan\n" * 5, b"1\n" * 10_000, b"soon\n"])
def test_a_damaged_record_is_no_start(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "starts").write_bytes(damage)
    assert Starts({"RUNTIME_DIRECTORY": str(tmp_path)}).begin() == 0


def test_where_nothing_can_be_written_down_there_is_no_pause(tmp_path: Path) -> None:
    for environ in ({}, {"RUNTIME_DIRECTORY": str(tmp_path / "none")}):
        starts = Starts(environ)
        assert [starts.begin() for _ in range(5)] == [0] * 5
        starts.end()


async def test_crashes_are_remembered_and_a_stop_is_not_one(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        await mirror.kill()
    assert len((runtime / "starts").read_text().splitlines()) == 1
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        assert len((runtime / "starts").read_text().splitlines()) == 2
        assert await mirror.terminate() == 0
    assert not (runtime / "starts").exists()


async def test_one_that_waits_can_be_stopped(tmp_path: Path, upstream: Upstream) -> None:
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    for _ in range(20):
        Starts(environ).begin()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path, upstream.origin)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omaha_mirror", "serve"),
        *("--config", str(tmp_path / "config.yaml")),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        assert b"again and again" in await process.stderr.readline()
        process.terminate()
        await process.communicate()
    assert not (tmp_path / "cache").exists()
