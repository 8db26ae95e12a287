import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from omaha_mirror.cli import options
from omaha_mirror.cli.main import cli
from omaha_mirror.config import load

FULL = """\
listen: [":8000", "[::1]:8001"]
public_url: http://mirror.example:8000
cache: {directory: packages, max_size: 1GB, min_free: 1537B, hold_back: 1}
state_directory: state
release_layout: off
upstream:
  distribution: coreos
  allowed_hosts: ["https://*.example.org"]
  ca_file: ca.pem
  connect_timeout: 1m30s
  stall_timeout: 500ms
default_track: hold
tracks:
  lts: hold
  edge: "4230.2"
  canary: {version: "4230.2.1", packages: [oem-azure.gz], allow_downgrade: true}
log: {format: json, level: debug}
"""


@pytest.fixture(autouse=True)
def no_config_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(options, "DEFAULT_CONFIG", tmp_path / "default.yaml")
    monkeypatch.setenv("CACHE_DIRECTORY", "/c")
    monkeypatch.setenv("STATE_DIRECTORY", "/s")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_text("")
    path = tmp_path / "config.yaml"
    path.write_text(FULL)
    return path


def omaha_mirror(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def test_check_says_what_will_happen(full: Path) -> None:
    result = omaha_mirror("config", "check", "--config", str(full))
    assert result.exit_code == 0
    assert (
        result.output
        == f"""\
{full}: ok
  listen    :8000, [::1]:8001
  upstream  https://update.release.core-os.net (coreos)
  cache     {full.parent}/packages (up to 1GB, 1537B kept free)
  state     {full.parent}/state
  track     lts: hold (noupdate)
  track     edge: offer 4230.2
  track     canary: offer 4230.2.1 with oem-azure.gz, to machines with a newer version too
  track     every other track: hold (noupdate)
"""
    )


def test_check_tells_every_error_and_exits_78(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lisen: []\ncache: {max_size: much}\n")
    result = omaha_mirror("config", "check", "--config", str(path))
    assert (result.exit_code, result.stdout) == (78, "")
    assert f"{path}:1:1: lisen: unknown key; did you mean listen?" in result.stderr
    assert f"{path}:2:19: cache.max_size: 'much' is not a size" in result.stderr


def test_a_config_that_is_not_there_exits_78(tmp_path: Path) -> None:
    result = omaha_mirror("config", "check", "--config", str(tmp_path / "none.yaml"))
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr


def test_without_the_option_the_file_in_etc_is_read_if_it_is_there(tmp_path: Path) -> None:
    result = omaha_mirror("config", "check")
    assert result.stdout.startswith("built-in defaults (no config file): ok\n")
    options.DEFAULT_CONFIG.write_text("log: {level: debug}")
    assert omaha_mirror("config", "check").stdout.startswith(f"{tmp_path}/default.yaml: ok\n")
    assert yaml.safe_load(omaha_mirror("config", "show").stdout)["log"]["level"] == "debug"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_show_prints_loads_again_to_the_same_config(full: Path, form: list[str]) -> None:
    result = omaha_mirror("config", "show", "--config", str(full), *form)
    again = full.parent / "elsewhere" / "again.yaml"
    again.parent.mkdir()
    again.write_text(result.stdout)
    assert result.exit_code == 0
    assert load(again, {}) == load(full, {})


def test_show_includes_the_defaults_and_writes_values_as_people_do() -> None:
    shown = yaml.safe_load(omaha_mirror("config", "show").stdout)
    assert shown["cache"] == {
        "directory": "/c",
        "max_size": "50GiB",
        "min_free": "2GiB",
        "hold_back": "1MiB",
        "when_abandoned": "finish",
    }
    assert shown["upstream"]["connect_timeout"] == "30s"
    assert shown["listen"] == ["0.0.0.0:8000"]
    assert json.loads(omaha_mirror("config", "show", "--json").stdout) == shown


def test_show_masks_a_password(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("upstream: {proxy: 'http://user:s3cret@proxy:3128'}")
    shown = yaml.safe_load(omaha_mirror("config", "show", "--config", str(path)).stdout)
    assert shown["upstream"]["proxy"] == "http://user:***@proxy:3128"
