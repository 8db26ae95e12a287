import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omaha_mirror.cli.main import cli
from omaha_mirror.cli.serve_package import update_server
from omaha_mirror.config import Address

BODY = os.urandom(500_000)


class Serving:
    """`omaha-mirror serve-package` as a process."""

    def __init__(self, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "omaha_mirror", "serve-package", *args],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self.greeting = [self._process.stderr.readline() for _ in range(2)]

    @property
    def server(self) -> str:
        """The URL that it prints for update.conf."""
        return self.greeting[1].removeprefix("SERVER=").strip()

    def stop(self) -> tuple[int, str]:
        """Ask it to stop; gives its exit status and log."""
        self._process.send_signal(signal.SIGTERM)
        _, log = self._process.communicate(timeout=60)
        return self._process.returncode, log

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def serving(*args: str) -> Iterator[Serving]:
    process = Serving(*args)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "production.bin"
    path.write_bytes(BODY)
    return path


def check(server: str, version: str, *args: str) -> Result:
    return CliRunner().invoke(cli, ["check", "--server", server, "--version", version, *args])


def test_a_machine_updates_from_it_and_one_that_is_as_new_does_not(
    path: Path, tmp_path: Path
) -> None:
    got = tmp_path / "got"
    flags = ["-package-file", str(path), "-package-version=3815.2.1"]
    with serving(*flags, "-listen-address", "127.0.0.1:0") as process:
        assert process.greeting[0] == "serving version 3815.2.1, 500.0 kB\n"
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/v1/update/", process.server)
        old = check(process.server, "3815.2.0", "--oem", "azure", "--download", str(got))
        assert old.exit_code == 0, old.stderr
        assert (got / "update.gz").read_bytes() == BODY
        for version in ("3815.2.1", "4000.0.0"):
            assert check(process.server, version).stdout.startswith("No update.")
        status, log = process.stop()
    assert status == 0
    assert "update applied, waiting for the reboot" in log
    assert "Traceback" not in log


def test_a_file_changed_in_place_is_not_sent(path: Path, tmp_path: Path) -> None:
    flags = ["--package-file", str(path), "--package-version", "3815.2.1"]
    with serving(*flags, "--listen-address", "127.0.0.1:0") as process:
        path.write_bytes(BODY[::-1])
        os.utime(path, ns=(0, 1))
        result = check(process.server, "3815.2.0", "--download", str(tmp_path / "got"))
        assert result.exit_code == 1
        assert os.listdir(tmp_path / "got") == []
        _, log = process.stop()
    assert "was changed since it was hashed: restart serve-package" in log


def serve_package(*args: str) -> Result:
    return CliRunner().invoke(cli, ["serve-package", *args])


@pytest.mark.parametrize(
    ("file", "version", "address", "status", "why"),
    [
        ("none", "1.0", ":0", 1, "No such file or directory"),
        (".", "1.0", ":0", 1, "is not a file"),
        ("empty", "1.0", ":0", 1, "is empty"),
        ("production.bin", "latest", ":0", 2, "cannot read the version 'latest'"),
        ("production.bin", "1.0", "8000", 2, "is not host:port"),
        ("production.bin", "1.0", "127.0.0.1:99999", 2, "is not host:port"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    path: Path, file: str, version: str, address: str, status: int, why: str
) -> None:
    (path.parent / "empty").touch()
    named = str(path.parent / file)
    result = serve_package(
        "--package-file", named, "--package-version", version, "--listen-address", address
    )
    assert (result.exit_code, result.stdout) == (status, "")
    assert sum(why in line for line in result.stderr.splitlines()) == 1
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("missing", ["--package-file", "--package-version"])
def test_both_flags_are_needed(path: Path, missing: str) -> None:
    flags = {"--package-file": str(path), "--package-version": "1.0"}
    del flags[missing]
    result = serve_package(*(part for flag in flags.items() for part in flag))
    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.stderr


def test_a_port_in_use_is_one_line(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = serve_package(
            "--package-file", str(path), "--package-version", "1.0", "--listen-address", address
        )
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"cannot listen on {address}" in line


def test_the_server_line_names_this_host_where_every_interface_is_listened_on() -> None:
    assert update_server(Address("192.0.2.1", 80)) == "http://192.0.2.1:80/v1/update/"
    assert update_server(Address("::1", 80)) == "http://[::1]:80/v1/update/"
    for host in ("", "0.0.0.0", "::"):
        expected = f"http://{socket.gethostname()}:8000/v1/update/"
        assert update_server(Address(host, 8000)) == expected
