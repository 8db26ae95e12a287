import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from omaha_mirror.cli import options
from omaha_mirror.cli.main import cli
from omaha_mirror.config import load
from tests.support.mirror import DATA

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
    shutil.copy(DATA / "tls" / "authority.pem", tmp_path / "ca.pem")
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
  upstream  https://public.update.core-os.net/v1/update/, https://update.release.core-os.net (coreos)
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:s3cret@db/fleet", "postgresql://user:***@db/fleet"),
        ("postgresql://user:s3@cret@db/fleet", "postgresql://user:***@db/fleet"),
        (
            "postgresql://user@db/fleet?password=s3cret&x=1",
            "postgresql://user@db/fleet?password=***&x=1",
        ),
        ("sqlite:////srv/fleet.db", "sqlite:////srv/fleet.db"),
    ],
)
def test_show_masks_the_password_of_the_database(tmp_path: Path, url: str, shown: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"fleet: {{database: '{url}'}}")
    for form in ((), ("--json",)):
        result = omaha_mirror("config", "show", *form, "--config", str(path))
        assert yaml.safe_load(result.stdout)["fleet"]["database"] == shown
    path.write_text(f"fleet: {{database: '{shown}'}}")
    assert omaha_mirror("config", "check", "--config", str(path)).exit_code == 78 * ("***" in shown)


def test_check_says_what_machines_are_told_behind_a_proxy(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("trusted_proxies: [10.0.0.1]\n")
    assert "set public_url" in omaha_mirror("config", "check", "--config", str(path)).stdout
    path.write_text("trusted_proxies: [10.0.0.1]\npublic_url: http://mirror.example\n")
    assert "set public_url" not in omaha_mirror("config", "check", "--config", str(path)).stdout


def test_versions_are_shown_in_quotes(full: Path) -> None:
    shown = omaha_mirror("config", "show", "--config", str(full)).stdout
    assert '  edge: "4230.2"\n' in shown
    assert '    version: "4230.2.1"\n' in shown


def test_a_masked_password_is_not_taken_for_the_password(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("upstream: {proxy: 'http://user:s3cret@proxy:3128'}")
    path.write_text(omaha_mirror("config", "show", "--config", str(path)).stdout)
    result = omaha_mirror("config", "check", "--config", str(path))
    assert result.exit_code == 78
    assert "upstream.proxy: *** stands for a password that is not shown" in result.stderr


def test_what_comes_from_the_environment_is_said(
    full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMAHA_MIRROR_LOG__LEVEL", "error")
    shown = omaha_mirror("config", "show", "--config", str(full)).stdout
    assert shown.startswith("# log.level is from OMAHA_MIRROR_LOG__LEVEL\nlisten:\n")
    assert yaml.safe_load(shown)["log"]["level"] == "error"
    checked = omaha_mirror("config", "check", "--config", str(full)).stdout
    assert "\n  variable  OMAHA_MIRROR_LOG__LEVEL\n" in checked


def test_a_wrong_variable_exits_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMAHA_MIRROR_LOG__LEVEL", "inf")
    result = omaha_mirror("config", "check")
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr.startswith("OMAHA_MIRROR_LOG__LEVEL: log.level: must be 'debug'")
    assert "did you mean info?\n    inf\n    ^\n" in result.stderr


def test_quiet_says_nothing_of_a_good_config_and_all_of_a_bad_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    good = omaha_mirror("config", "check", "-q", "--config", str(path))
    assert (good.exit_code, good.output) == (0, "")
    path.write_text("lisen: []")
    bad = omaha_mirror("config", "check", "-q", "--config", str(path))
    assert (bad.exit_code, bad.stdout) == (78, "")
    assert "did you mean listen?" in bad.stderr


def test_the_schema_is_json() -> None:
    result = omaha_mirror("config", "schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["properties"]["listen"]["default"] == ["0.0.0.0:8000"]


@pytest.mark.parametrize("command", [["config", "check"], ["config", "show"], ["client-config"]])
def test_a_config_that_cannot_be_read_exits_78(tmp_path: Path, command: list[str]) -> None:
    result = omaha_mirror(*command, "--config", str(tmp_path))
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == f"{tmp_path}: cannot be read: Is a directory\n"


def test_a_default_config_that_leads_nowhere_is_not_passed_over() -> None:
    options.DEFAULT_CONFIG.symlink_to("/nowhere/config.yaml")
    result = omaha_mirror("config", "check")
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr


def test_a_default_config_in_a_folder_that_cannot_be_entered_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = (
        "x" * 300
    )  # a name too long stands for a folder without permission: tests may run as root
    monkeypatch.setattr(options, "DEFAULT_CONFIG", options.DEFAULT_CONFIG.with_name(name))
    result = omaha_mirror("config", "check")
    assert result.exit_code == 78
    assert "cannot be read: File name too long" in result.stderr
