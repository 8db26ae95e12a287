"""What the container files name exists; that they build is for where there is an engine."""

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from omaha_mirror.cli.main import cli
from omaha_mirror.cli.options import DEFAULT_CONFIG
from omaha_mirror.config import load
from omaha_mirror.config.model import ALL_INTERFACES

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "packaging/Containerfile").read_text().replace("\\\n", " ").splitlines()
COMPOSE = yaml.safe_load((ROOT / "packaging/compose.yaml").read_text())


def values_of(instruction: str) -> list[str]:
    """What follows an instruction, each time."""
    return [line.partition(" ")[2].strip() for line in LINES if line.startswith(f"{instruction} ")]


def service() -> dict[str, Any]:
    (service,) = COMPOSE["services"].values()
    assert isinstance(service, dict)
    return service


def test_all_that_is_copied_exists_and_is_all_that_the_package_is_built_from() -> None:
    copied = [
        name for line in values_of("COPY") if "--from" not in line for name in line.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    built_from = (ROOT / "pyproject.toml").read_text()
    for name in ("README.md", "LICENSE", "systemd", "config.example.yaml", "omaha_mirror"):
        assert name in built_from
        assert name in copied


def test_it_runs_a_command_that_exists_as_nobody() -> None:
    (entry,), (command,) = values_of("ENTRYPOINT"), values_of("CMD")
    assert json.loads(entry) == ["omaha-mirror"]
    assert json.loads(command)[0] in cli.commands
    (user,) = values_of("USER")
    assert 0 not in map(int, user.split(":"))


def test_cache_and_state_are_the_volumes() -> None:
    variables = dict(pair.split("=", 1) for line in values_of("ENV") for pair in shlex.split(line))
    config = load(None, variables)
    volumes = {str(config.cache.directory), str(config.state_directory)}
    (line,) = values_of("VOLUME")
    assert set(json.loads(line)) == volumes
    assert {volume.partition(":")[2] for volume in service()["volumes"]} == volumes
    assert {volume.partition(":")[0] for volume in service()["volumes"]} == set(COMPOSE["volumes"])


def test_the_port_is_the_one_that_it_listens_on() -> None:
    assert values_of("EXPOSE") == [str(ALL_INTERFACES.port)]
    assert service()["ports"] == [f"{ALL_INTERFACES.port}:{ALL_INTERFACES.port}"]


def test_compose_builds_this_file_and_takes_every_right_away() -> None:
    build = service()["build"]
    assert (ROOT / "packaging" / build["context"] / build["dockerfile"]).samefile(
        ROOT / "packaging/Containerfile"
    )
    assert service()["read_only"] is True
    assert service()["cap_drop"] == ["ALL"]
    assert str(DEFAULT_CONFIG) in (ROOT / "packaging/compose.yaml").read_text()


@pytest.fixture
def answer() -> Iterator[tuple[int, list[int]]]:
    """A server on a free port, and the status that it answers the next requests for /healthz with."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, statuses
        server.shutdown()
        thread.join()


def test_the_health_check_tells_good_from_bad_and_from_gone(answer: tuple[int, list[int]]) -> None:
    (line,) = values_of("HEALTHCHECK")
    python, *arguments = json.loads(re.sub(r".* CMD ", "", line))
    assert python == "python"
    port, statuses = answer

    def check(at: int) -> int:
        code = [arguments[0], arguments[1].replace(str(ALL_INTERFACES.port), str(at))]
        return subprocess.run(
            [sys.executable, *code], check=False, capture_output=True, timeout=30
        ).returncode

    statuses.append(200)
    assert check(port) == 0
    statuses.append(503)
    assert check(port) == 1
    assert check(1) == 1
