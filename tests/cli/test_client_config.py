import os
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from omaha_mirror.cli.main import cli

UPDATE_CONF = "GROUP=stable\nSERVER=http://mirror.example:8000/v1/update/\n"


def client_config(*args: str) -> Result:
    return CliRunner().invoke(cli, ["client-config", *args])


def test_update_conf_names_the_group_and_the_server() -> None:
    result = client_config("--server", "http://mirror.example:8000", "--group", "lts-2024")
    assert result.exit_code == 0
    assert result.output == "GROUP=lts-2024\nSERVER=http://mirror.example:8000/v1/update/\n"


@pytest.mark.parametrize(
    "server",
    [
        "http://mirror.example:8000",
        "http://Mirror.Example:8000/",
        "http://mirror.example:8000/v1/update",
        "http://mirror.example:8000/v1/update/",
    ],
)
def test_the_path_of_the_server_is_written_in_one_form(server: str) -> None:
    assert client_config("--server", server).output == UPDATE_CONF


def test_the_server_comes_from_public_url_unless_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("public_url: http://mirror.example:8000")
    assert client_config("--config", str(path)).output == UPDATE_CONF
    result = client_config("--config", str(path), "--server", "https://other")
    assert "SERVER=https://other/v1/update/\n" in result.output


def test_without_a_server_the_person_is_asked_for_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    result = client_config("--config", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give it with --server http://HOST:8000, or set public_url" in result.stderr


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--server", "mirror:8000", "it must start with http:// or https://"),
        ("--server", "http://mirror/omaha/", "it cannot have a path"),
        ("--server", "http://mirror'; reboot '", "spaces"),
        ("--group", "stable\nSERVER=http://evil", "is not a track"),
        ("--group", "a'b", "is not a track"),
        ("--group", "", "is not a track"),
        ("--format", "ignition", "'ignition' is not one of"),
    ],
)
def test_what_cannot_stand_in_update_conf_is_a_usage_error(
    option: str, value: str, why: str
) -> None:
    result = client_config("--server", "http://mirror", option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_butane_writes_the_same_file() -> None:
    result = client_config("--server", "http://mirror.example:8000", "--format", "butane")
    assert yaml.safe_load(result.output) == {
        "variant": "flatcar",
        "version": "1.0.0",
        "storage": {
            "files": [
                {
                    "path": "/etc/flatcar/update.conf",
                    "overwrite": True,
                    "mode": 0o644,
                    "contents": {"inline": UPDATE_CONF},
                }
            ]
        },
    }


class Machine:
    """A folder that stands for a machine's root, where the script is run by a real shell."""

    def __init__(self, root: Path) -> None:
        self.conf = root / "etc" / "update.conf"
        self._restarts = root / "restarts"
        self._bin = root / "bin"
        self._bin.mkdir()
        systemctl = self._bin / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >>{self._restarts}\n')
        systemctl.chmod(0o755)

    def run(self, *args: str) -> None:
        script = client_config("--format", "shell", "--server", "http://mirror.example:8000", *args)
        assert "conf=/etc/flatcar/update.conf\n" in script.output
        subprocess.run(
            ["sh"],
            input=script.output.replace("/etc/flatcar/update.conf", str(self.conf)),
            env={"PATH": f"{self._bin}:{os.environ['PATH']}"},
            text=True,
            check=True,
            timeout=60,
        )

    @property
    def restarts(self) -> list[str]:
        return self._restarts.read_text().splitlines() if self._restarts.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_script_sets_up_a_machine_without_update_conf(machine: Machine) -> None:
    machine.run()
    assert machine.conf.read_text() == UPDATE_CONF
    assert machine.restarts == ["restart update-engine.service"]
    assert os.listdir(machine.conf.parent) == ["update.conf"]


def test_the_script_keeps_other_settings_and_the_mode(machine: Machine) -> None:
    machine.conf.parent.mkdir()
    machine.conf.write_text(
        "# ours\nGROUP=beta\nREBOOT_STRATEGY=off\n SERVER=disabled\nMACHINE_ALIAS=a b"
    )
    machine.conf.chmod(0o600)
    machine.run()
    assert machine.conf.read_text() == (
        "# ours\nREBOOT_STRATEGY=off\nMACHINE_ALIAS=a b\n" + UPDATE_CONF
    )
    assert machine.conf.stat().st_mode & 0o777 == 0o600


def test_the_script_leaves_a_machine_alone_that_is_set_up(machine: Machine) -> None:
    machine.run()
    machine.run()
    assert machine.conf.read_text() == UPDATE_CONF
    assert len(machine.restarts) == 1
    machine.run("--group", "beta")
    assert machine.conf.read_text() == UPDATE_CONF.replace("stable", "beta")
    assert len(machine.restarts) == 2
