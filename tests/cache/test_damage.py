"""A proven blob that is one no longer: what lies in its place is put aside, and what is right is fetched."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from omaha_mirror.cache import Proof, Reader
from omaha_mirror.cache import page_cache as reading
from omaha_mirror.cache.draft import DiskDraft
from omaha_mirror.cache.events import Corrupted, FillEnded, Opened, Uncached
from omaha_mirror.cache.reader import WINDOW
from tests.cache.conftest import MakeSite
from tests.cache.site import Hold, Site, rest, step
from tests.cache.source import ScriptedSource, random_source

SIZE = WINDOW + 100_000
HALF = SIZE // 2


def truncated(blob: Path) -> None:
    os.truncate(blob, HALF)


def emptied(blob: Path) -> None:
    os.truncate(blob, 0)


def grown(blob: Path) -> None:
    with blob.open("ab") as file:
        file.write(b"more")


def linked(blob: Path) -> None:
    elsewhere = blob.with_name("elsewhere")
    shutil.copy2(blob, elsewhere)
    blob.unlink()
    blob.symlink_to(elsewhere)


def dangling(blob: Path) -> None:
    blob.unlink()
    blob.symlink_to("nowhere")


def folder(blob: Path) -> None:
    blob.unlink()
    blob.mkdir()
    (blob / "file").write_bytes(b"x")


def fifo(blob: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


def unix_socket(blob: Path) -> None:
    blob.unlink()
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(blob.parent):
        bound.bind(blob.name)


DAMAGES = [truncated, emptied, grown, linked, dangling, folder, fifo, unix_socket]
Damage = Callable[[Path], None]


@pytest.fixture
def source() -> ScriptedSource:
    source = random_source(SIZE)
    source.chunk = 1024 * 1024
    return source


async def have(site: Site, source: ScriptedSource) -> Path:
    await site.cache.fetch(source.expected, source)
    return site.store.path(source.expected.key)


@pytest.mark.parametrize("start", [0, HALF])
@pytest.mark.parametrize("while_running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_is_damaged_is_fetched_again_and_nobody_notices(
    make_site: MakeSite, source: ScriptedSource, damage: Damage, while_running: bool, start: int
) -> None:
    site = await make_site()
    key, blob = source.expected.key, await have(site, source)
    damage(blob)
    if not while_running:
        site = await make_site()
        assert not site.cache.holds(key)
    assert await site.read(source, start) == source.data[start:]
    assert source.sent == 2 * SIZE
    assert [event.key for event in site.all(Corrupted)] == [key]
    assert len(list(site.store.quarantine.iterdir())) == 1
    await site.cache.fetch(source.expected, source)
    assert await site.read(source, 1) == source.data[1:]
    assert source.sent == 2 * SIZE


@pytest.mark.parametrize("damage", DAMAGES)
async def test_who_has_right_bytes_goes_on_with_what_is_fetched(
    site: Site, source: ScriptedSource, damage: Damage
) -> None:
    blob = await have(site, source)
    with (
        site.cache.read(source.expected, source, 0, SIZE) as early,
        site.cache.read(source.expected, source, 1, SIZE) as late,
    ):
        got = await step(early)
        damage(blob)
        assert got + await rest(early) == source.data
        assert await rest(late) == source.data[1:]


async def test_what_lies_in_the_place_of_a_folder_of_blobs_is_put_aside(
    site: Site, source: ScriptedSource
) -> None:
    blob = await have(site, source)
    shutil.rmtree(blob.parent)
    blob.parent.touch()
    assert await site.read(source) == source.data
    await site.cache.fetch(source.expected, source)
    assert blob.read_bytes() == source.data
    assert source.sent == 2 * SIZE


async def test_bytes_that_the_disk_has_lost_are_fetched(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await have(site, source)
    inode = blob.stat().st_ino

    def load(fd: int, offset: int, count: int) -> None:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(reading, "resident", lambda *_: False)
    with site.cache.read(source.expected, source, 0, SIZE) as other:
        got = await step(other)
        monkeypatch.setattr(reading, "load", load)
        assert await site.read(source) == source.data
        assert got + await rest(other) == source.data
    assert len(site.all(Corrupted)) == 1
    assert source.sent == 2 * SIZE


async def test_other_trouble_on_opening_condemns_nothing(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    await have(site, source)

    def busy(_key: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(site.store, "open", busy)
        assert await site.read(source) == source.data
    await site.cache.fetch(source.expected, source)
    assert site.all(Corrupted) == []
    assert list(site.store.quarantine.iterdir()) == []


async def test_a_damaged_file_that_cannot_be_put_aside_is_named_until_it_is_gone(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await have(site, source)
    truncated(blob)

    def immutable(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(blob))

    with monkeypatch.context() as patch:
        patch.setattr(site.store, "set_aside", immutable)
        for ended in (2, 3):
            assert await site.read(source) == source.data
            await site.event(FillEnded, ended)
            while site.cache.fills():  # noqa: ASYNC110 - its event comes just before its end
                await asyncio.sleep(0)
    assert source.sent == 3 * SIZE
    assert list(site.cache.immovable()) == [blob.name]
    assert str(blob) in site.all(Uncached)[-1].reason
    assert [event.key for event in site.all(Corrupted)] == [blob.name]
    blob.unlink()
    await site.cache.fetch(source.expected, source)
    assert (source.sent, site.cache.immovable()) == (4 * SIZE, {})


async def test_what_is_no_file_can_be_evicted_and_removed(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site()
    for how in (folder, linked):
        how(await have(site, source))
        site = await make_site()
        await site.cache.remove(source.expected.key)
        assert source.expected.key not in site.files("blobs")


async def test_a_use_is_noted_as_access_and_changes_nothing_else(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site()
    blob = await have(site, source)
    written = blob.stat().st_mtime_ns
    os.utime(blob, ns=(0, written))
    site = await make_site()
    assert site.ledger.entries[blob.name].last_used == 0
    await site.read(source)
    await site.cache.close()
    assert blob.stat().st_mtime_ns == written
    used = blob.stat().st_atime
    assert used > written / 1e9 - 60
    blob.read_bytes()
    assert site.all(Opened)[-1].status == "hit"
    site = await make_site()
    assert site.ledger.entries[blob.name].last_used >= used


@pytest.mark.parametrize("damage", [truncated, emptied, grown])
async def test_what_is_damaged_as_it_gets_its_name_is_not_taken_for_right(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    commit = DiskDraft.commit

    def damaged(draft: DiskDraft, proof: Proof) -> str:
        key = commit(draft, proof)
        if not list(site.store.quarantine.iterdir()):
            damage(site.store.path(key))
        return key

    monkeypatch.setattr(DiskDraft, "commit", damaged)
    with site.cache.read(source.expected, source, 0, SIZE) as slow:
        got = await step(slow)
        await have(site, source)
        assert await site.read(source, HALF) == source.data[HALF:]
        assert got + await rest(slow) == source.data
    assert len(site.all(Corrupted)) == 1


async def test_who_reads_while_a_blob_gets_its_name_goes_on_too(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, hold = DiskDraft.commit, Hold()

    def damaged(draft: DiskDraft, proof: Proof) -> str:
        key = commit(draft, proof)
        if not list(site.store.quarantine.iterdir()):
            truncated(site.store.path(key))
            hold.pass_through()
        return key

    monkeypatch.setattr(DiskDraft, "commit", damaged)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await hold.reached.wait()
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        reading = asyncio.create_task(_patiently(reader))
        for _ in range(10):
            await asyncio.sleep(0)
        hold.open()
        assert await reading == source.data
    await fetching


async def _patiently(reader: Reader) -> bytes:
    """All of it; where the file ends before, others are asked for."""
    got = b""
    while (window := await reader.window()) is not None:
        data = os.pread(window.file.fileno(), window.count, window.offset)
        reader.advance(len(data))
        got += data
        if len(data) < window.count:
            reader.unreadable("short")
    return got
