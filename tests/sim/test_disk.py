"""The disk in memory does as a real one does, and keeps and loses what a power cut may."""

import errno
import fcntl
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.cache import DiskStore
from omaha_mirror.state_file import replace_file, sync_folder
from tests.cache.drafts import VALIDATOR, proof
from tests.cache.test_power_cut import DATA, EXPECTED, KEY
from tests.sim.disk import FOREVER, Dead, Disk, Fault
from tests.sim.inodes import BLOCK
from tests.sim.mounting import begin, end, mounted
from tests.support.clock import machine_clock

NAMES = ["a", "b", "one", "one/a", "one/b", "one/two", "one/two/c", "gone/x"]


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(wall=lambda: 1000.0, now=lambda: 5.0)
    with mounted(disk):
        yield disk


# As a real one


def told(result: Any) -> object:
    """What can be compared of what a call gave."""
    if isinstance(result, os.stat_result):
        is_folder = result.st_mode & 0o170000 == 0o040000
        return (result.st_mode, None if is_folder else (result.st_size, result.st_nlink))
    if isinstance(result, tuple):
        return tuple(map(told, result))
    return sorted(result) if isinstance(result, list) else result


def opened(path: Path, flags: int, work: Callable[[int], object]) -> object:
    fd = os.open(path, flags, 0o644)
    try:
        return work(fd)
    finally:
        os.close(fd)


def some_call(rng: random.Random) -> Callable[[Path], object]:
    """A call on files below a folder, the same for the same state of `rng`."""
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    offset, count = rng.randrange(3 * BLOCK), rng.choice([0, 1, 700, BLOCK, 9000])
    data = rng.randbytes(count)
    flags = rng.choice([os.O_RDWR, os.O_RDWR, os.O_RDONLY, os.O_WRONLY])
    more = rng.choice([0, 0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY])  # fmt: skip

    def on_file(work: Callable[[int], object]) -> Callable[[Path], object]:
        return lambda top: opened(top / name, flags | more, work)

    halves: list[bytes | bytearray] = [data[: count // 3], bytearray(data[count // 3 :])]
    return rng.choice(
        [
            on_file(lambda fd: os.pwrite(fd, data, offset)),
            on_file(lambda fd: os.pwritev(fd, halves, offset)),
            on_file(lambda fd: (os.write(fd, data), os.write(fd, b"x"), os.lseek(fd, 0, 1))),
            on_file(lambda fd: os.pread(fd, count, offset)),
            on_file(lambda fd: (os.read(fd, count), os.read(fd, 3))),
            on_file(lambda fd: (os.lseek(fd, offset, 0), os.write(fd, data), os.fstat(fd))),
            on_file(lambda fd: os.ftruncate(fd, offset)),
            on_file(os.fsync),
            on_file(os.fdatasync),
            on_file(lambda fd: os.preadv(fd, [bytearray(count), bytearray(5)], offset)),
            lambda top: (top / name).write_bytes(data),
            lambda top: (top / name).open("ab").write(data),
            lambda top: (top / name).read_bytes(),
            lambda top: (top / name).open("r+b", buffering=0).truncate(count),
            lambda top: (top / name).mkdir(),
            lambda top: (top / name).mkdir(parents=True, exist_ok=True),
            lambda top: (top / name).touch(),
            lambda top: (top / name).unlink(),
            lambda top: (top / name).rmdir(),
            lambda top: (top / name).rename(top / other) and None,
            lambda top: (top / name).stat(),
            lambda top: (top / name).lstat().st_blocks if (top / name).is_file() else None,
            lambda top: ((top / name).exists(), (top / name).is_dir(), os.access(top / name, os.W_OK)),
            lambda top: os.listdir(top / name),
            lambda top: sorted(entry.name for entry in os.scandir(top / name)),
            lambda top: sorted(path.name for path in top.glob("*/*")),
            lambda top: os.utime(top / name, (1.5, 2.5), follow_symlinks=False),
            lambda top: (top / name).resolve().relative_to(top),
            lambda top: shutil.rmtree(top / name),
            lambda top: replace_file(top / name, data),
            lambda top: sync_folder(top / name),
        ]
    )  # fmt: skip


def outcome(call: Callable[[Path], object], top: Path) -> object:
    try:
        return told(call(top))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def everything(top: Path) -> dict[str, object]:
    return {
        str(path.relative_to(top)): (path.read_bytes(), path.stat().st_mode)
        if path.is_file()
        else None
        for path in sorted(top.rglob("*"))
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("seed", range(6))
def test_calls_give_what_they_give_on_a_real_file_system(
    disk: Disk, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 7)
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        tops = [disk.place, Path(folder).resolve()]
        rng = random.Random(seed)
        seen = set()
        for turn in range(600):
            state = rng.getstate()
            found = []
            for top in tops:
                rng.setstate(state)
                found.append(outcome(some_call(rng), top))
            assert found[0] == found[1], f"call {turn}"
            seen.add(str(found[0])[:10])
        assert everything(tops[0]) == everything(tops[1])
        assert {"ENOENT", "ENOTDIR", "EEXIST"} < seen, "it tried all kinds"
        assert disk.open_files() == []


def test_files_without_a_name_live_as_long_as_they_are_open(disk: Disk) -> None:
    with tempfile.TemporaryFile(dir=disk.place) as file:
        file.write(b"ok")
        file.flush()
        assert os.listdir(disk.place) == []
        assert os.fstat(file.fileno()).st_size == 2
        assert disk.used == 1
    path = disk.place / "file"
    path.write_bytes(b"old")
    with path.open("rb") as file:
        path.unlink()
        path.write_bytes(b"new")
        assert (file.read(), path.read_bytes()) == (b"old", b"new")
    assert (disk.used, disk.inodes) == (1, 2)


def test_one_holds_a_lock_at_a_time(disk: Disk) -> None:
    first, second = (os.open(disk.place / ".lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(first)
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_call_that_is_not_doubled_fails(disk: Disk) -> None:
    fd = os.open(disk.place, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fchdir(fd)


def test_two_disks_and_the_real_one_stand_side_by_side(tmp_path: Path) -> None:
    disks = [Disk(Path(place)) for place in ("/sim", "/sim2")]
    with mounted(*disks):
        for top in (tmp_path, *(disk.place for disk in disks)):
            (top / "name").write_text(str(top))
        assert [disk.files() for disk in disks] == [
            {"/sim/name": b"/sim"},
            {"/sim2/name": b"/sim2"},
        ]
        with pytest.raises(OSError, match="cross-device"):
            Path("/sim/name").rename("/sim2/other")
    assert not Path("/sim").exists()
    assert (tmp_path / "name").read_text() == str(tmp_path)


# Faults


@pytest.mark.parametrize("what", ["EIO", "ENOSPC"])
def test_the_nth_call_of_a_kind_fails(disk: Disk, what: str) -> None:
    path = disk.place / "file"
    disk.fail(Fault("write", what, nth=2, times=2, path="file"))
    with path.open("wb", buffering=0) as file, (disk.place / "other").open("wb", 0) as other:
        assert file.write(b"1") == 1
        for _ in range(2):
            assert other.write(b"_") == 1
            with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
                file.write(b"2")
            assert raised.value.errno == getattr(errno, what)
        assert file.write(b"3") == 1
    assert path.read_bytes() == b"13"


def test_faults_of_each_kind_last_until_the_disk_is_healed(disk: Disk) -> None:
    path = disk.place / "file"
    path.write_bytes(b"x")
    calls: dict[Any, Callable[[], object]] = {
        "open": path.open,
        "read": path.read_bytes,
        "sync": lambda: sync_folder(disk.place),
        "rename": lambda: path.rename(disk.place / "other"),
        "unlink": path.unlink,
        "mkdir": (disk.place / "new").mkdir,
        "utime": lambda: os.utime(path, (0, 0)),
        "truncate": lambda: os.truncate(path, 0),
        "stat": path.lstat,
        "statvfs": lambda: os.statvfs(path),
        "list": lambda: os.listdir(disk.place),
    }
    for kind in calls:
        disk.fail(Fault(kind, "EIO", times=FOREVER))
    for call in calls.values():
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                call()
    disk.heal()
    assert path.read_bytes() == b"x"


def test_reads_and_writes_can_be_short(disk: Disk) -> None:
    for kind in ("write", "read"):
        disk.fail(Fault(kind, "short"))
    with (disk.place / "file").open("w+b", buffering=0) as file:
        assert file.write(b"12345678") == 4
        assert file.write(b"5678") == 4
        assert os.pread(file.fileno(), 8, 0) == b"1234"
        assert os.pread(file.fileno(), 8, 0) == b"12345678"


def test_a_full_disk_takes_what_fits(disk: Disk) -> None:
    disk.size = 3 * BLOCK
    with (disk.place / "file").open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), 100 * BLOCK)  # a hole takes no room
        assert os.statvfs(disk.place).f_bavail == 3
        assert os.pwrite(file.fileno(), bytes(4 * BLOCK), 10) == 3 * BLOCK - 10
        with pytest.raises(OSError, match="No space left"):
            os.pwrite(file.fileno(), b"x", 50 * BLOCK)
        assert os.pwrite(file.fileno(), b"x", 5) == 1
        assert os.statvfs(disk.place).f_bavail == 0
        assert os.fstat(file.fileno()).st_blocks == 3 * BLOCK // 512
    (disk.place / "file").unlink()
    assert os.statvfs(disk.place).f_bavail == 3


def test_a_slow_disk_takes_its_time_and_a_hanging_one_until_it_is_back(disk: Disk) -> None:
    disk.seconds, disk.rate = 0.01, 1000.0
    begin()
    (disk.place / "file").write_bytes(bytes(500))
    assert end() == pytest.approx(0.5 + 0.01 * 2)
    disk.seconds, disk.rate = 0.0, None
    disk.hang(7.0, path="file")
    begin()
    os.listdir(disk.place)
    assert end() == 0
    begin()
    (disk.place / "file").stat()
    assert end() == 2.0


def test_what_waits_on_the_loop_is_told(disk: Disk) -> None:
    path = disk.place / "file"
    path.write_bytes(bytes(2 * BLOCK))
    disk.strict = True
    begin()
    fd = os.open(path, os.O_RDONLY)
    end()
    assert os.pread(fd, 1, 0) == bytes(1), "it is in memory"
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    assert disk.on_loop == []
    os.pread(fd, 1, 0)
    path.stat()
    assert disk.on_loop == ["stat /file"]
    os.close(fd)


def test_pages_are_cold_after_a_power_cut(disk: Disk) -> None:
    path = disk.place / "file"
    replace_file(path, bytes(2 * BLOCK))
    disk.power_cut(random.Random(0))
    with path.open("rb", buffering=0) as file:
        buffer = [bytearray(1)]
        with pytest.raises(BlockingIOError):
            os.preadv(file.fileno(), buffer, BLOCK, os.RWF_NOWAIT)
        assert os.pread(file.fileno(), 1, BLOCK) == b"\0"
        assert os.preadv(file.fileno(), buffer, BLOCK, os.RWF_NOWAIT) == 1


# Ends


def lives(
    disk: Disk, work: Callable[[], object], seeds: int = 40, power: bool = True
) -> Iterator[dict[str, bytes]]:
    """What each end of a life that does `work` leaves."""
    for seed in range(seeds):
        with mounted(first := Disk(seed=seed, wall=disk.wall)):
            rng = random.Random(seed)
            first.end_at(rng.randrange(1, 15))
            try:
                work()
            except Dead:
                assert first.dead
            second = first.power_cut(rng) if power else first.kill()
            left = second.files()
            assert {str(path): path.read_bytes() for path in (disk.place).rglob("*") if path.is_file()} == left  # fmt: skip
            yield left


def test_a_file_that_was_replaced_is_whole_whenever_the_power_fails(disk: Disk) -> None:
    old, new = b"o" * 3 * BLOCK, b"n" * 3 * BLOCK
    path = disk.place / "file"

    def replaced() -> None:
        replace_file(path, old)
        replace_file(path, new)

    found = {left.get(str(path)) for left in lives(disk, replaced)}
    assert found == {None, old, new}


def test_a_file_that_was_not_synced_may_be_torn_whenever_the_power_fails(disk: Disk) -> None:
    new = b"n" * 3 * BLOCK
    path, draft = disk.place / "file", disk.place / "draft"

    def renamed() -> None:
        draft.write_bytes(new)
        draft.rename(path)
        sync_folder(disk.place)

    found = {left.get(str(path)) for left in lives(disk, renamed)}
    assert {None, b"", new} < found
    assert any(set(data) == {0, ord("n")} for data in found if data)


def test_a_kill_loses_nothing_that_was_written(disk: Disk) -> None:
    def written() -> None:
        with (disk.place / "file").open("ab", buffering=0) as file:
            for _ in range(20):
                file.write(b"x")

    assert {len(left.get("/sim/file", b"")) for left in lives(disk, written, power=False)} == {*range(13)}  # fmt: skip


def test_what_is_dead_changes_nothing_any_more(disk: Disk) -> None:
    file = (disk.place / "file").open("wb", buffering=0)
    file.write(b"1")
    fd = os.open(disk.place, os.O_RDONLY)
    second = disk.kill()
    with pytest.raises(Dead):
        file.write(b"2")
    with pytest.raises(Dead):
        os.fsync(fd)
    file.close()
    os.close(fd)
    (disk.place / "file").rename(disk.place / "other")
    assert second.files() == {"/sim/other": b"1"}
    assert second.open_files() == []


def test_what_a_failed_sync_should_have_written_is_lost_although_the_next_succeeds(
    disk: Disk,
) -> None:
    with (disk.place / "file").open("wb", buffering=0) as file:
        file.write(b"a" * BLOCK + b"b" * BLOCK)
        disk.fail(Fault("sync", "EIO"))
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"A" * BLOCK, 0)
        os.fsync(file.fileno())
    sync_folder(disk.place)
    assert (disk.place / "file").read_bytes() == b"A" * BLOCK + b"b" * BLOCK
    left = disk.power_cut(random.Random(1)).files()
    assert left == {"/sim/file": b"A" * BLOCK + bytes(BLOCK)}


def test_a_fill_ends_anywhere_and_what_is_believed_after_it_is_right(disk: Disk) -> None:
    def filled() -> None:
        store = DiskStore(disk.place / "cache", machine_clock())
        store.load()
        draft = store.draft(EXPECTED)
        draft.begin(VALIDATOR)
        for start in range(0, len(DATA), 100):
            draft.write(start, [DATA[start : start + 100]])
        draft.record()
        draft.commit(proof(DATA, EXPECTED))

    for left in lives(disk, filled, seeds=150):
        store = DiskStore(disk.place / "cache", machine_clock())
        assert [found.key for found in store.load()] in ([], [KEY])
        assert left.get(str(store.path(KEY)), DATA) == DATA
        with_draft = store.draft(EXPECTED)
        for start, stop in with_draft.filled:
            assert with_draft.read(start, stop - start) == DATA[start:stop]


def test_the_same_seed_gives_the_same_lives(disk: Disk) -> None:
    def work() -> None:
        for number in range(20):
            (disk.place / f"{number % 7}").write_bytes(bytes([number]) * 5000)
            for name in os.listdir(disk.place)[:1]:
                (disk.place / name).rename(disk.place / "moved")

    assert list(lives(disk, work)) == list(lives(disk, work))
