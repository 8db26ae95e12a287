"""State files: what is damaged is put aside and said, and what cannot be synced is said once."""

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from omaha_mirror import state_file
from omaha_mirror.state_file import (
    Damaged,
    make_folder,
    read_state,
    replace_file,
    restore,
    sync_folder,
)
from tests.sim.disk import Disk
from tests.sim.mounting import mounted
from tests.support.logs import Logs

LIMIT = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def number(content: bytes) -> int:
    return int(content)


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").touch()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(90))),
    "too large": lambda path: path.write_bytes(b"1" * (LIMIT + 1)),
    "a folder": a_folder,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_put_aside_and_said_with_what_it_costs(
    path: Path, damage: Callable[[Path], object], logs: Logs
) -> None:
    for _ in range(2):  # also over what was put aside before
        damage(path)
        found = os.lstat(path)
        assert restore(path, LIMIT, number, "all is lost") is None
        assert not os.path.lexists(path)
        aside = [other for other in path.parent.iterdir() if other.suffix == ".damaged"]
        assert found.st_ino in {os.lstat(other).st_ino for other in aside}
        [line] = logs
        assert str(path) in line["why"]
        assert line["loss"] == "all is lost"
        logs.clear()
        replace_file(path, b"5")
        assert restore(path, LIMIT, number, "all is lost") == 5
        path.unlink()
    assert logs == []


def test_what_is_not_there_is_no_damage(path: Path) -> None:
    assert read_state(path, LIMIT, number) is None


def test_a_disk_that_cannot_read_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("5")

    def broken(fd: int, count: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(Damaged, match=r"state\.json cannot be read: Input/output error"):
        read_state(path, LIMIT, number)


def test_nothing_is_left_open(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for damage in DAMAGE.values():
        damage(path)
        restore(path, LIMIT, number, "")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_replaces_folders_in_its_place_and_in_its_drafts(path: Path) -> None:
    path.mkdir()
    path.with_name("state.json.tmp").mkdir()
    replace_file(path, b"5")
    assert path.read_bytes() == b"5"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def failing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that fails to sync folders."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(state_file, "_logged", set())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_where_no_folder_can_be_synced_that_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, logs: Logs, number: int
) -> None:
    failing(number, monkeypatch)
    for _ in range(3):
        replace_file(path, b"5")
    [line] = logs
    assert line["log_level"] == "warning"
    assert line["path"] == str(path.parent)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_to_sync_a_folder_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing(number, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(number)):
        sync_folder(path.parent)


def test_a_folder_that_was_made_is_there_after_a_power_cut() -> None:
    for seed in range(20):
        disk = Disk(seed=seed)
        with mounted(disk):
            make_folder(Path("/sim/state/outbox"))
            disk.power_cut(random.Random(seed))
            assert Path("/sim/state/outbox").is_dir()
            make_folder(Path("/sim/state/outbox"))
