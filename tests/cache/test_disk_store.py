"""The default store, on real files: what has a name is proven."""

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from omaha_mirror.cache import DiskStore, Expected
from omaha_mirror.cache.blob_directory import QUARANTINED
from omaha_mirror.cache.draft import AT_ONCE, MAX_BUFFERS
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.store import Facts, Refusal, Stored
from tests.cache.drafts import DATA, EXPECTED, KEY, SIZE, VALIDATOR, Opened, half_done, names, proof
from tests.support.clock import machine_clock


def test_a_proven_blob_has_a_name_and_says_how_it_was_proven(
    store: DiskStore, opened: Opened
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    assert draft.commit(proof()) == KEY
    assert store.path(KEY).read_bytes() == DATA
    assert json.loads(store.path(KEY).with_suffix(".json").read_text()) == {
        "size": SIZE,
        "sha256": KEY,
        "sha1": None,
        "proven_by": "sha256",
        "signed_by": "",
        "source": "http://upstream.test/file",
        "validator": VALIDATOR,
    }
    assert names(store.partial) == []
    assert [(s.key, s.size) for s in store.load()] == [(KEY, SIZE)]


def test_bytes_and_sidecar_are_safe_before_the_name_and_the_journal_goes_last(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.record()
    steps: list[str] = []
    target = store.path(KEY)

    def path_of(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    fsync, rename, unlink = os.fsync, Path.rename, Path.unlink

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        steps.append(f"sync {Path(path_of(fd)).name}")

    def noted_rename(self: Path, other: Path) -> Path:
        steps.append(f"name {other.name}")
        return rename(self, other)

    def noted_unlink(self: Path, missing_ok: bool = False) -> None:
        steps.append(f"remove {self.name}")
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", noted_fsync)
        patch.setattr(Path, "rename", noted_rename)
        patch.setattr(Path, "unlink", noted_unlink)
        draft.commit(proof())
    assert steps == [
        f"sync {KEY}.data",
        f"sync {KEY}.tmp",
        f"name {KEY}.json",
        f"name {KEY}",
        f"sync {target.parent.name}",
        "sync blobs",
        "sync partial",
        f"remove {KEY}.json",
    ]


def test_a_span_is_in_the_journal_as_soon_as_it_is_written(
    store: DiskStore, opened: Opened
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(5, [DATA[5:8], DATA[8:15]])
    journal = store.partial / f"{KEY}.json"
    span = {"start": 5, "stop": 15, "crc32": zlib.crc32(DATA[5:15])}
    assert json.loads(journal.read_bytes().splitlines()[-1]) == span


def test_bytes_are_synced_before_the_line_that_claims_them(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA[:10]])
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).suffix)
    )
    draft.record()
    assert synced == [".data", ".json"]


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        (
            Expected(SIZE, None, hashlib.sha1(DATA).digest()),
            f"sha1-{hashlib.sha1(DATA).hexdigest()}",
        ),
        (Expected(SIZE, source="http://upstream.test/file"), KEY),
    ],
    ids=["a weak digest is part of the name", "an unnamed blob gets its digest as its name"],
)
def test_blobs_without_sha256(
    store: DiskStore, opened: Opened, expected: Expected, name: str
) -> None:
    draft = opened(expected)
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    assert names(store.partial) == [f"{expected.key}.data", f"{expected.key}.json"]
    assert draft.commit(proof(expected=expected)) == name
    with store.open(name) as file:
        assert file.read() == DATA
    assert [stored.key for stored in store.load()] == [name]
    assert names(store.partial) == []


def test_a_commit_over_the_same_blob_leaves_its_readers_alone(
    store: DiskStore, opened: Opened
) -> None:
    for expected in (EXPECTED, Expected(SIZE, source="http://upstream.test/file")):
        draft = opened(expected)
        draft.begin(VALIDATOR)
        draft.write(0, [DATA])
        draft.commit(proof(expected=expected))
        if expected is EXPECTED:
            reading = store.open(KEY)
    with reading:
        assert reading.read() == DATA
    assert len(store.load()) == 1


def test_many_small_buffers_at_once(opened: Opened) -> None:
    draft = opened()
    step = SIZE // (3 * MAX_BUFFERS)
    buffers = [DATA[at : at + step] for at in range(0, SIZE, step)]
    assert len(buffers) > 3 * MAX_BUFFERS
    draft.begin(VALIDATOR)
    draft.write(0, buffers)
    draft.record()
    assert draft.read(0, SIZE + 1) == DATA
    assert opened().filled == Intervals([(0, SIZE)])


def test_large_buffers_are_written_in_parts(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * (AT_ONCE // 64)
    parts: list[int] = []
    pwritev = os.pwritev

    def noted(fd: int, buffers: list[memoryview], at: int) -> int:
        parts.append(sum(map(len, buffers)))
        return pwritev(fd, buffers, at)

    monkeypatch.setattr(os, "pwritev", noted)
    draft = opened(Expected(len(data)))
    draft.begin(VALIDATOR)
    draft.write(0, [data[:100], data[100:-1], data[-1:]])
    assert parts == [AT_ONCE] * 4
    assert draft.read(0, len(data)) == data


def test_a_short_write_is_completed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev, pwrite = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, b, at: pwritev(fd, [b[0][:7]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:50_000], at))
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA[:30], DATA[30:]])
    draft.record()
    assert draft.read(0, SIZE) == DATA
    assert opened().filled == Intervals([(0, SIZE)])


def test_a_growing_blob_is_sparse_and_has_its_final_size(store: DiskStore, opened: Opened) -> None:
    opened(Expected(1 << 30, bytes(32)))
    status = (store.partial / f"{bytes(32).hex()}.data").stat()
    assert (status.st_size, status.st_blocks) == (1 << 30, 0)


def test_leftovers_and_foreign_files_are_swept_and_folders_left_alone(
    store: DiskStore, opened: Opened
) -> None:
    half_done(opened)
    foreign = store.blobs / "ab"
    (foreign / "sub").mkdir(parents=True)
    for name in ("a.data", "b.json", "c", "d.tmp"):
        (store.partial / name).write_bytes(b"x")
    (store.partial / "folder").mkdir()
    for name in ("0ab.tmp", "1ab.json", "README"):
        (foreign / name).write_bytes(b"x")
    assert store.load() == []
    assert names(store.partial) == [f"{KEY}.data", f"{KEY}.json"]
    assert (store.partial / "folder").is_dir()
    assert names(store.blobs) == ["README"]


def test_where_no_signature_counts_only_doubtful_sidecars_are_read(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.commit(proof())
    read: list[str] = []

    def describe(key: str) -> Facts:
        read.append(key)
        return Facts(SIZE)

    monkeypatch.setattr(store, "describe", describe)
    path = store.path(KEY)
    os.utime(path, (7, 100))
    os.utime(path.with_suffix(".json"), (7, 100))
    found = store.load(signed=False)
    assert (found, read) == ([Stored(KEY, SIZE, 7)], [])
    assert store.verifications() == {KEY: 100}
    assert (store.load(), read) == (found, [KEY])
    os.truncate(path, SIZE - 1)
    assert [blob.is_whole for blob in store.load(signed=False)] == [False]
    path.with_suffix(".json").unlink()
    store.load(signed=False)
    assert read == [KEY] * 3
    assert store.verifications() == {KEY: 0}


def a_folder(path: Path) -> None:
    (path / "folder").mkdir(parents=True)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a folder": a_folder,
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nested": lambda path: path.write_text("[" * 60_000),
    "beyond all numbers": lambda path: path.write_text('{"size": 1e999, "sha256": "00"}'),
    "large": lambda path: path.write_bytes(bytes(1 << 20)),
}


@pytest.mark.parametrize("put", STRANGE.values(), ids=STRANGE)
def test_strange_things_in_place_of_files_stop_no_start(
    store: DiskStore, opened: Opened, put: Callable[[Path], object]
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.commit(proof())
    other = "ab" * 32
    sidecar = store.path(KEY).with_suffix(".json")
    sidecar.unlink()
    store.path(other).parent.mkdir(exist_ok=True)
    for path in (
        sidecar,
        store.path(other).with_suffix(".json"),
        store.path(other).with_suffix(".tmp"),
        store.partial / f"{other}.data",
        store.partial / f"{other}.json",
        store.arriving / other,
        store.known / KEY,
        store.quarantine / f"{KEY}.left",
        store.quarantine / f"{KEY}.not",
    ):
        put(path)
    [blob] = store.load()
    assert (blob.key, blob.is_whole, blob.is_described) == (KEY, True, False)
    assert store.heads() == {}
    assert store.refusals() == {}
    assert list(store.marks()) == [KEY]
    store.remove(KEY)
    assert not os.path.lexists(sidecar)


@pytest.mark.parametrize("name", ["blobs", "partial", "quarantine", "incoming", "heads", "key"])
@pytest.mark.parametrize("kind", ["a pipe", "a link to itself", "large"])
def test_what_is_no_folder_where_one_should_be_is_put_aside(
    store: DiskStore, opened: Opened, name: str, kind: str
) -> None:
    place = store.path(KEY).parent if name == "key" else store.directory / name
    if place.exists():
        place.rmdir()
    STRANGE[kind](place)
    store.load()
    store.quarantine_blob(KEY, leaked=False)
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    assert draft.commit(proof()) == KEY


def test_a_removed_blob_leaves_nothing(store: DiskStore, opened: Opened) -> None:
    draft = opened()
    draft.write(0, [DATA])
    draft.commit(proof())
    store.remove(KEY)
    store.remove(KEY)
    assert names(store.blobs) == []
    assert store.load() == []


def test_a_use_survives_a_restart(store: DiskStore, opened: Opened) -> None:
    draft = opened()
    draft.write(0, [DATA])
    draft.commit(proof())
    store.touch(KEY, 12_345.5)
    assert [s.last_used for s in store.load()] == [12_345.5]


def test_a_use_that_cannot_be_kept_is_no_error(store: DiskStore) -> None:
    store.touch(KEY, 1.0)


def test_quarantine_keeps_the_newest_few(store: DiskStore) -> None:
    for i in range(QUARANTINED + 2):
        expected = Expected(1, bytes([i]) * 32)
        draft = store.draft(expected)
        draft.begin(VALIDATOR)
        draft.write(0, [bytes([i])])
        os.utime(draft.file.fileno(), (i, i))
        draft.reject(aside=True, leaked=False)
        draft.close()
    kept = [path.read_bytes() for path in store.quarantine.iterdir()]
    assert sorted(kept) == [bytes([i]) for i in range(2, QUARANTINED + 2)]
    assert names(store.partial) == []


def test_a_discarded_draft_leaves_nothing(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    opened().discard()
    assert names(store.directory) == []


def test_bytes_that_cannot_be_put_aside_are_not_believed_again(
    store: DiskStore, opened: Opened
) -> None:
    half_done(opened)
    draft = opened()
    store.quarantine.rmdir()
    with pytest.raises(FileNotFoundError):
        draft.reject(aside=True, leaked=False)
    assert opened().filled == Intervals()


def test_free_is_what_others_may_use(store: DiskStore) -> None:
    status = os.statvfs(store.directory)
    assert abs(store.free() - status.f_bavail * status.f_frsize) < 1 << 30


def test_a_file_that_is_no_key_is_no_blob(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, machine_clock())
    store.load()
    key = "ab" + "0" * 62
    folder = tmp_path / "blobs" / "ab"
    folder.mkdir()
    for name in (key, f"{key}~", "abc"):
        (folder / name).write_bytes(b"x")
    assert [stored.key for stored in store.load()] == [key]


def test_of_what_was_dropped_nothing_is_believed_and_of_the_rest_all(opened: Opened) -> None:
    """Though other bytes lie there now, and the line that told of all of it is no longer true."""
    half_done(opened)
    draft = opened()
    draft.drop(25_000, 65_000, leaked=False)
    draft.close()
    kept = [(0, 25_000), (65_000, 80_000)]
    draft = opened()
    assert list(draft.filled) == kept
    draft.write(25_000, [bytes(1000)])
    draft.close()
    draft = opened()
    assert list(draft.filled) == [(0, 26_000), (65_000, 80_000)]
    draft.drop(25_500, 25_600, leaked=False)
    draft.close()
    assert list(opened().filled) == [(0, 25_500), (25_600, 26_000), (65_000, 80_000)]


def test_bytes_that_overwrite_what_was_believed_cost_their_span_where_nobody_dropped_it(
    opened: Opened,
) -> None:
    half_done(opened)
    draft = opened()
    draft.write(100, [bytes(10)])
    draft.close()
    assert list(opened().filled) == [(100, 110), (60_000, 80_000)]


def test_a_dropped_span_of_which_some_left_leaves_a_mark(store: DiskStore, opened: Opened) -> None:
    half_done(opened)
    opened().drop(0, 10, leaked=False)
    assert store.marks() == {}
    opened().drop(0, 10, leaked=True)
    assert list(store.marks()) == [KEY]


def test_that_bytes_left_which_may_be_wrong_survives_a_crash(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(opened)
    draft = opened()
    assert not draft.leaked
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).suffix)
    )
    draft.leak()
    assert (draft.leaked, opened().leaked, synced) == (True, True, [".json"])
    draft.begin(VALIDATOR)
    assert (list(opened().filled), opened().leaked) == ([], True), "whatever became of them"


def test_who_cannot_read_a_line_takes_it_for_the_one_that_says_so(
    store: DiskStore, opened: Opened
) -> None:
    half_done(opened)
    opened().leak()
    journal = store.partial / f"{KEY}.json"
    journal.write_bytes(journal.read_bytes().replace(b'{"leaked": ', b'{"leaked": !'))
    assert (opened().leaked, opened().is_torn) == (True, True)


@pytest.mark.parametrize("boot", ["another", ""])
def test_a_kill_tears_nothing_and_a_power_cut_may_also_after_the_next_kill(
    store: DiskStore, opened: Opened, boot: str
) -> None:
    half_done(opened)
    opened().leak()
    assert (opened().leaked, opened().is_torn) == (True, False)
    store.boot, ours = boot, store.boot
    draft = opened()
    assert (draft.leaked, draft.is_torn) == (True, True)
    draft.begin(VALIDATOR)
    draft.leak()
    assert opened().is_torn
    store.boot = ours
    assert not opened().is_torn


def test_a_journal_that_cannot_be_read_may_have_said_so(
    store: DiskStore, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(opened)

    def unreadable(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", unreadable)
        with pytest.raises(OSError, match="Input/output"):
            opened()
    assert list(store.marks()) == [KEY]
    assert opened().filled.total == 0


@pytest.mark.parametrize(
    "line", ['{"dropped": [0]}', '{"dropped": ["0", 9]}', '{"leaked": 1}', "[]", "7", '"x"']
)
def test_lines_that_say_something_else_are_not_believed(
    store: DiskStore, opened: Opened, line: str
) -> None:
    half_done(opened)
    with (store.partial / f"{KEY}.json").open("a") as file:
        file.write(line + "\n")
    draft = opened()
    assert (draft.filled.total, draft.leaked) == (50_000, False)


def test_a_proven_blob_becomes_a_growing_one_when_a_byte_is_wrong(
    store: DiskStore, opened: Opened
) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.commit(proof())
    again = store.recheck(EXPECTED)
    assert (list(again.filled), again.validator) == ([(0, SIZE)], None)
    assert [stored.key for stored in store.load()] == [KEY]
    again.drop(100, 200, leaked=False)
    again.drop(150, 300, leaked=False)
    again.close()
    assert [names(store.blobs), store.load()] == [[], []]
    draft = opened()
    assert (list(draft.filled), draft.validator) == ([(0, 100), (300, SIZE)], None)
    draft.begin(VALIDATOR)
    draft.close()
    draft = opened()
    assert (list(draft.filled), draft.validator) == ([(0, 100), (300, SIZE)], VALIDATOR)
    draft.write(100, [DATA[100:300]])
    draft.drop(400, 500, leaked=False)
    draft.close()
    draft = opened()
    assert list(draft.filled) == [(0, 400), (500, SIZE)]
    draft.write(400, [DATA[400:500]])
    draft.commit(proof())
    assert [stored.key for stored in store.load()] == [KEY]
    assert store.path(KEY).read_bytes() == DATA


def test_a_blob_that_is_proven_again_stays_what_it_is(store: DiskStore, opened: Opened) -> None:
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA])
    draft.commit(proof())
    sidecar = store.path(KEY).with_suffix(".json")
    for told in (sidecar.read_bytes(), b"broken"):
        sidecar.write_bytes(told)
        again = store.recheck(EXPECTED)
        again.leak()
        again.record()
        assert again.commit(proof()) == KEY
        again.close()
        assert store.describe(KEY).sha256 == proof().sha256
        assert names(store.quarantine) == []
    store.remove(KEY)
    with pytest.raises(FileNotFoundError):
        store.recheck(EXPECTED)


def test_why_a_blob_is_not_to_be_served_is_written_down(store: DiskStore) -> None:
    why = Refusal("it is not signed", "terms")
    store.refuse(KEY, why)
    assert store.refusals() == {KEY: why}
    assert (store.leftovers(), store.marks()) == ([], {})
    (store.quarantine / "torn.not").write_text('{"reason')
    assert store.refusals() == {KEY: why}
