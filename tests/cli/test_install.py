import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omaha_mirror.cli import install
from omaha_mirror.cli.main import cli
from omaha_mirror.config import load

PROGRAM = "/opt/omaha-mirror/bin/omaha-mirror"
SERVICE = install.UNIT_DIRECTORY / "omaha-mirror.service"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root directory of a system, with the program in it."""
    script = tmp_path / PROGRAM.removeprefix("/")
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(script.parent))
    return tmp_path


@pytest.fixture
def systemctl(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd that runs in the root directory; gives the file in which it notes what it is told."""
    (root / "run/systemd/system").mkdir(parents=True)
    notes = root / "notes"
    (root / "fake").mkdir()
    fake = root / "fake/systemctl"
    fake.write_text(f'#!/bin/sh\necho "$@" >>{notes}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    return notes


def run(command: str, root: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(cli, [command, "--prefix", str(root), *arguments])
    assert result.exit_code == 0, result.output
    return result


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in root.rglob("*.*")
        if path.is_file()
    }


def fill(root: Path) -> list[Path]:
    """Cache and state as systemd lays them out for a dynamic user."""
    made = []
    for parent in ("var/cache", "var/lib"):
        data = root / parent / "private/omaha-mirror"
        data.mkdir(parents=True)
        (data / "data").write_text("precious")
        (root / parent / "omaha-mirror").symlink_to("private/omaha-mirror")
        made += [data, root / parent / "omaha-mirror"]
    return made


# Install


def test_units_and_config_are_written_for_the_program_that_installs(root: Path) -> None:
    result = run("install", root)
    assert f"ExecStart={PROGRAM} serve\n" in (root / SERVICE).read_text()
    assert {path.name for path in (root / install.UNIT_DIRECTORY).iterdir()} == set(install.UNITS)
    for path in (*(root / install.UNIT_DIRECTORY).iterdir(), root / install.CONFIG):
        assert path.stat().st_mode & 0o777 == 0o644
        assert f"write {path}\n" in result.output
    assert result.output.endswith(
        "Next:\n  systemctl daemon-reload\n"
        "  systemctl enable --now omaha-mirror.service omaha-mirror.socket\n"
    )


def test_an_operators_shell_finds_the_directories_of_the_service(root: Path) -> None:
    run("install", root)
    config = load(root / install.CONFIG, {"HOME": "/root"})
    assert config.cache.directory == Path("/var/cache/omaha-mirror")
    assert config.state_directory == Path("/var/lib/omaha-mirror")
    plain = load(
        None,
        {"CACHE_DIRECTORY": "/var/cache/omaha-mirror", "STATE_DIRECTORY": "/var/lib/omaha-mirror"},
    )
    assert config == plain


def test_a_dry_run_says_all_and_does_nothing(root: Path) -> None:
    result = run("install", root, "--dry-run")
    assert result.output.count("would write ") == len(install.UNITS) + 1
    assert files(root) == {}


def test_a_config_is_never_overwritten(root: Path) -> None:
    run("install", root)
    (root / install.CONFIG).write_text("tracks: {stable: hold}\n")
    result = run("install", root)
    assert (root / install.CONFIG).read_text() == "tracks: {stable: hold}\n"
    assert f"{root / install.CONFIG} stays as it is\n" in result.output


def test_an_upgrade_replaces_units_and_leaves_cache_and_state(root: Path) -> None:
    run("install", root)
    whole = files(root)
    kept = fill(root)
    (root / SERVICE).write_text("[Service]\nExecStart=/old\n")
    result = run("install", root)
    assert files(root) == whole
    assert result.output.count("write ") == 1
    assert result.output.endswith("  systemctl restart omaha-mirror.service\n")
    assert all((path / "data").read_text() == "precious" for path in kept)


def test_installing_twice_changes_nothing(root: Path) -> None:
    run("install", root)
    assert "nothing to do\n" in run("install", root).output


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/home/me/venv/bin/omaha-mirror", "the service cannot see /home/me/venv/bin/omaha-mirror"),
        ("/opt/my mirror/bin/omaha-mirror", "use a plain path"),
    ],
)
def test_a_program_that_the_service_could_not_run_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    script = root / program.removeprefix("/")
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(script.parent))
    result = CliRunner().invoke(cli, ["install", "--prefix", str(root)])
    assert result.exit_code == 1
    assert words in result.output
    assert files(root) == {}


def test_a_program_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    result = CliRunner().invoke(cli, ["install", "--prefix", str(tmp_path)])
    assert result.exit_code == 1
    assert "install the package first" in result.output


def test_what_cannot_be_written_is_told_with_its_path(root: Path) -> None:
    (root / "etc").write_text("no directory")
    result = CliRunner().invoke(cli, ["install", "--prefix", str(root)])
    assert result.exit_code == 1
    assert f"cannot write {root / SERVICE}: Not a directory" in result.output


# Uninstall


def test_units_and_an_unchanged_config_go_and_data_stays(root: Path) -> None:
    run("install", root)
    kept = fill(root)
    result = run("uninstall", root)
    assert files(root) == {}
    for path in kept:
        assert (path / "data").read_text() == "precious"
        assert f"{path} stays\n" in result.output


def test_a_changed_config_stays(root: Path) -> None:
    run("install", root)
    (root / install.CONFIG).write_text("tracks: {stable: hold}\n")
    assert f"{root / install.CONFIG} stays\n" in run("uninstall", root).output
    assert set(files(root)) == {str(install.CONFIG)}


def test_purge_leaves_nothing_and_follows_no_link(root: Path) -> None:
    run("install", root)
    fill(root)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.txt").write_text("somebody else's")
    (root / "var/lib/private/omaha-mirror/link").symlink_to(elsewhere)
    run("uninstall", root, "--purge")
    assert files(root) == {"elsewhere/data.txt": "somebody else's"}
    assert not list(root.rglob("var/**/omaha-mirror*"))
    assert not (root / install.CONFIG.parent).exists()


def test_a_dry_run_removes_nothing(root: Path) -> None:
    run("install", root)
    fill(root)
    before = files(root)
    result = run("uninstall", root, "--purge", "--dry-run")
    assert result.output.count("would remove ") == len(install.UNITS) + 5
    assert files(root) == before


def test_a_running_service_is_stopped_first_with_its_timers(root: Path, systemctl: Path) -> None:
    run("install", root)
    wants = root / install.UNIT_DIRECTORY / "timers.target.wants"
    wants.mkdir()
    timer = wants / "omaha-mirror-fetch@stable.timer"
    timer.symlink_to("../omaha-mirror-fetch@.timer")
    run("uninstall", root)
    assert systemctl.read_text() == (
        "disable --now omaha-mirror.service omaha-mirror.socket omaha-mirror-fetch@stable.timer\n"
        "daemon-reload\n"
    )
    assert not timer.is_symlink()


def test_nothing_goes_while_the_service_cannot_be_stopped(root: Path, systemctl: Path) -> None:
    run("install", root)
    (root / "fake/systemctl").write_text("#!/bin/sh\nexit 1\n")
    before = files(root)
    result = CliRunner().invoke(cli, ["uninstall", "--prefix", str(root), "--purge"])
    assert result.exit_code == 1
    assert "cannot run systemctl disable --now" in result.output
    assert files(root) == before


def test_uninstalling_what_is_not_there_is_no_error(root: Path) -> None:
    assert run("uninstall", root).output == "nothing to do\n"
