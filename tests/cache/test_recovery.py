"""A killed process loses nothing that it wrote; what the journal claims and the data does not bear out is dropped."""

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from omaha_mirror.cache import DiskStore
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.state_file import make_folder
from tests.cache.drafts import DATA, EXPECTED, KEY, SIZE, VALIDATOR, Opened, half_done, names, proof
from tests.cache.site import open_files
from tests.sim.disk import Dead, Disk, Fault
from tests.sim.mounting import mounted
from tests.support.clock import machine_clock

HALF_DONE = Intervals([(0, 30_000), (60_000, 80_000)])


def rewrite(store: DiskStore, old: bytes, new: bytes) -> None:
    path = store.partial / f"{KEY}.json"
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))


def journal_lines(store: DiskStore) -> list[bytes]:
    return (store.partial / f"{KEY}.json").read_bytes().split(b"\n")


@contextmanager
def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine dies at the `step`-th call that changes what is on disk."""
    calls = 0

    class PowerCutError(BaseException):
        pass

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls > step:
                raise PowerCutError
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for place, name in ((os, "fsync"), (os, "fdatasync"), (Path, "rename"), (Path, "unlink")):
            patch.setattr(place, name, counted(getattr(place, name)))
        try:
            yield
        except PowerCutError:
            return
    assert calls <= step


def test_what_was_written_is_found_again_though_it_was_never_recorded(opened: Opened) -> None:
    half_done(opened)
    draft = opened()
    assert draft.filled == HALF_DONE
    assert draft.validator == VALIDATOR
    draft.write(30_000, [DATA[30_000:60_000]])
    assert opened().filled == Intervals([(0, 80_000)])


def test_a_torn_last_line_costs_its_span_and_nothing_else(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    path = store.partial / f"{KEY}.json"
    path.write_bytes(path.read_bytes()[:-9])
    draft = opened()
    assert draft.filled == Intervals([(0, 30_000), (60_000, 70_000)])
    draft.write(70_000, [DATA[70_000:80_000]])
    draft.close()
    assert opened().filled == HALF_DONE


@pytest.mark.parametrize(
    "line",
    [
        b'{"start": 30000, "stop": 60000, "crc32": 1}',
        b'{"start": 30000, "stop": 999999999, "crc32": 0}',
        b'{"start": -5, "stop": 60000, "crc32": 0}',
        b'{"start": 60000, "stop": 30000, "crc32": 0}',
        b'{"start": 10' + b"0" * 40 + b', "stop": 11' + b"0" * 40 + b', "crc32": 0}',
        b'{"start": 1e999, "stop": 60000, "crc32": 0}',
        b'{"start": null, "stop": 60000, "crc32": 0}',
        b"[1, 2, 3]",
        b"7",
        b"\xff\xfe",
    ],
)
def test_a_lying_line_is_not_believed(store: DiskStore, opened: Opened, line: bytes) -> None:
    half_done(opened)
    with (store.partial / f"{KEY}.json").open("ab") as journal:
        journal.write(line + b"\n")
    assert opened().filled == HALF_DONE


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"size": 100000}',
        b'{"size": 100000, "validator": null}',
        b'{"size": 100000, "validator": "x"}',
        b'{"size": 99999, "validator": {"etag": "1"}}',
        b'{"size": 100000, "vali',
    ],
)
def test_without_a_good_header_nothing_is_believed(
    store: DiskStore, opened: Opened, header: bytes
) -> None:
    half_done(opened)
    rewrite(store, journal_lines(store)[0], header)
    draft = opened()
    assert (draft.filled, draft.validator) == (Intervals(), None)
    draft.begin({"etag": '"2"'})
    draft.write(5, [DATA[5:10]])
    again = opened()
    assert (again.filled, again.validator) == (Intervals([(5, 10)]), {"etag": '"2"'})


def test_an_empty_journal_is_no_journal(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    (store.partial / f"{KEY}.json").write_bytes(b"")
    assert opened().filled == Intervals()


def test_a_data_file_that_was_cut_costs_what_is_missing(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    os.truncate(store.partial / f"{KEY}.data", 65_000)
    draft = opened()
    assert draft.filled == Intervals([(0, 30_000)])
    assert (store.partial / f"{KEY}.data").stat().st_size == SIZE


def test_a_changed_byte_costs_its_span(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    with (store.partial / f"{KEY}.data").open("r+b") as file:
        file.write(bytes([DATA[0] ^ 1]))
    assert opened().filled == Intervals([(60_000, 80_000)])


def test_with_no_byte_left_no_generation_is_known(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    (store.partial / f"{KEY}.data").unlink()
    draft = opened()
    assert (draft.filled, draft.validator) == (Intervals(), None)


def test_an_unreadable_disk_is_an_error_and_leaves_no_file_open(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(opened)

    def broken(fd: int, count: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        with pytest.raises(OSError, match="Input/output"):
            store.draft(EXPECTED)
    assert open_files(store.directory) == []
    assert (names(store.partial), len(names(store.quarantine))) == ([], 2)
    assert list(store.marks()) == [KEY]
    assert opened().filled == Intervals()


def test_of_a_disk_that_fills_up_in_a_line_of_the_journal_only_that_line_is_lost(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    log = Mock(wraps=draft._log)
    with monkeypatch.context() as patch:
        log.write.side_effect = [draft._log.write(b'{"start": 0, "st'), full]
        patch.setattr(draft, "_log", log)
        with pytest.raises(OSError, match="No space"):
            draft.write(0, [DATA[:100]])
    draft.write(100, [DATA[100:200]])
    draft.close()
    assert opened().filled == Intervals([(100, 200)])


@pytest.mark.parametrize("step", range(9))
def test_a_crash_during_a_commit_leaves_a_whole_blob_or_a_draft(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.record()
    with crash_at(step, monkeypatch):
        draft.commit(proof())
    stored = DiskStore(store.directory, machine_clock()).load()
    if stored:
        assert [(s.key, s.size) for s in stored] == [(KEY, SIZE)]
        assert store.path(KEY).read_bytes() == DATA
        assert names(store.blobs) == [KEY, f"{KEY}.json"]
        assert names(store.partial) == []
    else:
        assert names(store.blobs) == []
        assert opened().filled == Intervals([(0, SIZE)])


@pytest.mark.parametrize("power_fails", [False, True])
@pytest.mark.parametrize("change", range(1, 7))
def test_that_wrong_bytes_were_sent_is_known_however_their_rejection_ends(
    change: int, power_fails: bool
) -> None:
    for seed in range(10):
        disk = Disk(seed=seed)
        with mounted(disk):
            make_folder(Path("/sim/cache"))
            store = DiskStore(Path("/sim/cache"), machine_clock())
            store.load()
            draft = store.draft(EXPECTED)
            draft.begin(VALIDATOR)
            draft.write(0, [DATA[:1000]])
            draft.record()
            draft.leak()
            disk.end_at(change)
            with suppress(Dead):
                draft.reject(aside=False, leaked=True)
            if power_fails:
                disk.power_cut(random.Random(seed))
            else:
                disk.kill()
            found = DiskStore(Path("/sim/cache"), machine_clock())
            found.load()
            assert KEY in found.marks() or found.draft(EXPECTED).leaked


@pytest.mark.parametrize("seed", range(5))
def test_what_a_sync_in_vain_lost_is_written_again_before_it_is_a_blob(seed: int) -> None:
    disk = Disk(seed=seed)
    with mounted(disk):
        make_folder(Path("/sim/cache"))
        store = DiskStore(Path("/sim/cache"), machine_clock())
        store.load()
        draft = store.draft(EXPECTED)
        draft.begin(VALIDATOR)
        draft.write(0, [DATA])
        disk.fail(Fault("sync", "EIO", path=".data"))
        with pytest.raises(OSError, match="Input/output"):
            draft.record()
        draft.commit(proof())
        disk.power_cut(random.Random(seed))
        again = DiskStore(Path("/sim/cache"), machine_clock())
        again.load()
        assert again.path(KEY).read_bytes() == DATA
