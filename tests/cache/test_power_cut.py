"""The power fails at any moment: what has a name is whole and proven, and what is believed is right."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from omaha_mirror.cache import DiskStore, Expected
from tests.cache.drafts import VALIDATOR, names, proof
from tests.cache.power_cut import Disk, Fate, lay_out, watch
from tests.support.clock import machine_clock

DATA = os.urandom(300)
EXPECTED = Expected(len(DATA), hashlib.sha256(DATA).digest(), source="http://upstream.test/file")
KEY = EXPECTED.key


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    store = DiskStore(tmp_path / "cache", machine_clock())
    store.load()
    return store


@pytest.fixture
def disk(store: DiskStore) -> Iterator[Disk]:
    disk = Disk(store.directory)
    yield disk
    disk.close()


def fill(store: DiskStore, *, record: bool) -> None:
    """Two connections, one after a restart; `record` syncs now and then."""
    draft = store.draft(EXPECTED)
    draft.begin(VALIDATOR)
    draft.write(0, [DATA[:50], DATA[50:100]])
    if record:
        draft.record()
    draft.write(200, [DATA[200:]])
    draft.close()
    draft = store.draft(EXPECTED)
    draft.write(100, [DATA[100:200]])
    if record:
        draft.record()
    draft.commit(proof(DATA, EXPECTED))
    draft.close()


def after(fate: Fate, directory: Path) -> tuple[bool, int]:
    """Start on what was left: whether the blob is there, and how many bytes of a draft are."""
    lay_out(fate, directory)
    store = DiskStore(directory, machine_clock())
    stored = store.load()
    whole = [(found.key, found.size) for found in stored]
    assert whole in ([], [(KEY, len(DATA))])
    if whole:
        with store.open(KEY) as file:
            assert file.read() == DATA
        facts = store.describe(KEY)
        assert (facts.size, facts.sha256) == (len(DATA), EXPECTED.sha256)
    assert names(store.blobs) == ([KEY, f"{KEY}.json"] if whole else [])
    assert names(store.partial) in ([], [f"{KEY}.data", f"{KEY}.json"])
    draft = store.draft(EXPECTED)
    for start, stop in draft.filled:
        assert draft.read(start, stop - start) == DATA[start:stop]
    recovered = draft.filled.total
    if recovered:
        assert draft.validator == VALIDATOR
    for start, stop in list(draft.filled.gaps(0, len(DATA))):
        if not draft.validator:
            draft.begin(VALIDATOR)
            draft.validator = VALIDATOR
        draft.write(start, [DATA[start:stop]])
    assert draft.commit(proof(DATA, EXPECTED)) == KEY
    draft.close()
    assert store.path(KEY).read_bytes() == DATA
    shutil.rmtree(directory)
    return bool(whole), recovered


@pytest.mark.parametrize("record", [False, True])
def test_a_power_cut_at_any_moment_of_a_fill_leaves_nothing_wrong(
    store: DiskStore, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bool
) -> None:
    with monkeypatch.context() as patch:
        watch(disk, patch)
        fill(store, record=record)
        disk.moment()
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    found = [after(fate, tmp_path / "left") for fate in disk.fates]
    assert len(found) > 50
    assert {whole for whole, _ in found} == {False, True}, "the model has both"
    assert {0, len(DATA)} < {recovered for _, recovered in found}, "and drafts in between"
    assert all(after(fate, tmp_path / "left")[0] for fate in disk.last), "what is done is safe"


def test_what_was_recorded_survives_a_power_cut(
    store: DiskStore, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        watch(disk, patch)
        draft = store.draft(EXPECTED)
        draft.begin(VALIDATOR)
        draft.write(0, [DATA[:100]])
        draft.record()
        draft.write(100, [DATA[100:200]])
        disk.moment()
        draft.close()
    found = {after(fate, tmp_path / "left") for fate in disk.last}
    assert {recovered for _, recovered in found} == {100, 200}
