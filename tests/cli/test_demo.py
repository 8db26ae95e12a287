import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from omaha_mirror.cli import demo
from omaha_mirror.cli.demo import run_demo
from omaha_mirror.cli.main import cli

QUICK = 4_000_000.0


async def test_the_story_goes_as_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await run_demo(tmp_path, QUICK)
    told = capsys.readouterr().out
    order = [
        "Machine A runs 3815.2.0 and asks: it is offered 3815.2.1.",
        "Machine A has its first bytes while the release server has sent",
        "Machine B runs 3815.2.0 and asks: it is offered 3815.2.1.",
        "Machine B joins that download",
        "The release server was asked for the package once, and the mirror has it now.",
        "Machine C is served from the mirror's disk",
        "Now the release server is switched off.",
        "Machine D is served from the mirror's disk",
        "Machine D has all of it",
        "Machine E runs 3815.2.1 already and asks: there is no update for it.",
        "fetched from the release server",
        "served to machines",
        "omaha-mirror serve",
        "omaha-mirror client-config",
    ]
    places = [told.find(line) for line in order]
    assert -1 not in places, [line for line, at in zip(order, places, strict=True) if at < 0]
    assert places == sorted(places)
    assert told.count("and the SHA-256 is right") == 4
    assert re.search(r"release server │ 4.0 MB ", told)
    assert re.search(r"served to machines +│ 15.9 MB ", told)
    assert re.search(r"saved on the line +│ 11.9 MB \(75%\)", told)


async def test_every_machine_of_it_has_the_payload(tmp_path: Path) -> None:
    await run_demo(tmp_path, QUICK)
    payload = files("omaha_mirror.cli").joinpath("data", "update.gz").read_bytes()
    for name in "ABCD":
        assert (tmp_path / name / "flatcar_production_update.gz").read_bytes() == payload
    assert os.listdir(tmp_path / "E") == []


@pytest.mark.long
def test_the_command_needs_nothing_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "omaha_mirror", "demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"http_proxy": "http://127.0.0.1:1", "PATH": "/bin"},
        cwd=Path(__file__).parent.parent.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "saved on the line" in done.stdout


def test_a_reader_that_has_gone_away_is_no_failure_of_the_demo() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "omaha_mirror", "demo"],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_demo_that_goes_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    for name in ("begin_to_queue", "set_up_logging"):  # they are for the whole process
        monkeypatch.setattr(demo, name, lambda *_: None)
    monkeypatch.setattr(demo, "PATH", "/amd64-usr/1.0.0/flatcar_production_update.gz")
    result = CliRunner().invoke(cli, ["demo"])
    assert (result.exit_code, result.stderr) == (1, "Error: Machine A got no offer\n")
