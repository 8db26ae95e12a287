"""A mirror that cannot start says why in one line, and with the right exit code."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

GOOD = """\
listen: ['127.0.0.1:{port}']
admin: {{listen: []}}
cache: {{directory: {directory}/cache}}
state_directory: {directory}/state
"""
BAD_CONFIG = 78
FAILURE = 1


def start(directory: Path, text: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a `serve` with such a config; the file stands as `F`."""
    config = directory / "config.yaml"
    config.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "omaha_mirror", "serve", "--config", str(config)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.replace(str(config), "F").splitlines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lisen: []\n", "F:1:1: lisen: unknown key; did you mean listen?"),
        ("tracks:\n  lts: 4081.2\n", "F:2:8: tracks.lts: YAML reads 4081.2 as"),
        ("log: {level: info}\nlog: {level: debug}\n", "F:2:1: log: "),
        ("cache: [\n", "F:2:1: "),
        ("upstream: {connect_timeout: soon}\n", "F:1:29: upstream.connect_timeout: "),
    ],
)
def test_a_mistake_in_the_config_is_shown_where_it_is(tmp_path: Path, text: str, said: str) -> None:
    code, lines = start(tmp_path, text)
    assert code == BAD_CONFIG
    assert lines[0].startswith(said)
    # The line of the file and a caret may follow, and nothing more.
    assert [line for line in lines if line.startswith("F")] == lines[:1]
    assert len(lines) <= 3


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    text = GOOD.format(port=0, directory=tmp_path).replace("127.0.0.1", "192.0.2.1")
    code, lines = start(tmp_path, text)
    assert code == FAILURE
    [line] = lines
    assert line.startswith("omaha-mirror: cannot listen on 192.0.2.1:0: ")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = start(tmp_path, GOOD.format(port=port, directory=tmp_path))
    assert code == FAILURE
    assert lines == [f"omaha-mirror: cannot listen on 127.0.0.1:{port}: Address already in use"]


@pytest.mark.parametrize("name", ["cache", "state"])
def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a file where a folder should be")
    code, lines = start(tmp_path, GOOD.format(port=0, directory=tmp_path))
    assert code == FAILURE
    assert len(lines) == 1
    assert str(tmp_path / name) in lines[0]


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    code, lines = start(tmp_path, GOOD.format(port=0, directory="/proc"))
    assert code == FAILURE
    assert len(lines) == 1
    assert "/proc/cache" in lines[0]


WITHOUT = """
import errno, os, sys
import {module}

def {name}(*_):
    raise OSError(errno.{code}, os.strerror(errno.{code}))

{module}.{name} = {name}
from omaha_mirror.cli.main import main

main()
"""


@pytest.mark.parametrize(
    ("module", "name", "code", "said"),
    [
        ("fcntl", "flock", "ENOLCK", "cannot lock {directory}/cache/.lock: No locks available; "),
        ("fcntl", "flock", "ENOSYS", "cannot lock {directory}/cache/.lock: "),
    ],
)
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, module: str, name: str, code: str, said: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(GOOD.format(port=0, directory=tmp_path))
    script = WITHOUT.format(module=module, name=name, code=code)
    done = subprocess.run(
        [sys.executable, "-c", script, "serve", "--config", str(config)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == FAILURE
    [line] = done.stderr.splitlines()
    assert line.startswith("omaha-mirror: " + said.format(directory=tmp_path))
    assert "local disk" in line
