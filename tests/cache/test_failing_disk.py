"""A disk that fails: readers are told, and the books stay straight."""

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from omaha_mirror.cache import Expected, Limits
from omaha_mirror.cache.blob import Head
from omaha_mirror.cache.errors import CacheError, ResumeUnsafe, SourceGone
from omaha_mirror.cache.events import FillEnded, Outcome, Uncached
from omaha_mirror.cache.prover import HoldBack, HoldBacks, Read
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, rest
from tests.cache.source import CHUNK, ScriptedSource, flipped

SIZE = 2 * 1024 * 1024


@pytest.mark.parametrize("step_name", ["draft", "begin", "write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_a_disk_that_takes_nothing_stops_no_reader(
    site: Site, source: ScriptedSource, step_name: str, number: int
) -> None:
    site.store.failures[step_name] = OSError(number, os.strerror(number))
    assert await site.read(source) == source.data
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert os.strerror(number) in (await site.event(Uncached)).reason
    assert not site.cache.holds(source.expected.key)
    site.store.failures.clear()
    assert await site.read(source) == source.data
    await site.event(FillEnded, 2)
    assert site.cache.holds(source.expected.key)


@pytest.mark.parametrize("start", [0, SIZE // 2])
async def test_what_cannot_be_read_back_passes_through(
    site: Site, source: ScriptedSource, start: int
) -> None:
    """A disk that dies: it takes bytes, and gives none back."""
    site.store.failures["read"] = OSError(errno.EIO, "Input/output error")
    assert await site.read(source, start) == source.data[start:]
    ended = site.all(FillEnded)[0]
    assert (ended.outcome, "Input/output" in ended.reason) == (Outcome.FAILED, True)
    assert len(site.all(Uncached)) == 1
    site.store.failures.clear()
    assert await site.read(source) == source.data


class SignedBy(HoldBack):
    """Finds that a key has signed it."""

    def __init__(self, key: str, size: int, hold_back: int) -> None:
        super().__init__(size, hold_back)
        self._key = key

    def conclude(self, read: Read | None) -> str:
        return self._key


class Signing(HoldBacks):
    """Accepts what was proven while the key was the same."""

    key = "one"

    def accepts(self, signed_by: str) -> bool:
        return signed_by == self.key

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None) -> HoldBack:
        return SignedBy(self.key, expected.size, hold_back)


async def test_a_blob_that_a_disk_has_lost_is_fetched_for_who_wants_it_proven_anew(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    provers = Signing()
    site = await make_site(provers=provers)
    await site.cache.fetch(source.expected, source)
    inode, pread = site.store.path(source.expected.key).stat().st_ino, os.pread

    def lost(fd: int, count: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, count, offset)

    provers.key = "other"
    monkeypatch.setattr(os, "pread", lost)
    await site.cache.fetch(source.expected, source)
    assert site.cache.holds(source.expected.key)
    assert source.sent == 2 * SIZE


async def test_written_bytes_that_vanish_are_told_to_the_readers(
    site: Site, source: ScriptedSource
) -> None:
    """Somebody cuts the file under our hands."""
    hold, _ = site.store.hold("read"), source.gate(CHUNK)
    reading = asyncio.create_task(site.read(source))
    await hold.reached.wait()
    await site.filled(CHUNK)
    os.truncate(site.store.partial / f"{source.expected.key}.data", 0)
    hold.open()
    with pytest.raises(CacheError, match="are missing at 0"):
        await reading


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF])
async def test_a_file_system_that_syncs_no_folder_keeps_packages(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    site = await make_site()
    for _ in range(3):
        assert await site.read(source) == source.data
        await site.event(FillEnded)
    assert source.sent == SIZE
    assert site.all(Uncached) == []
    assert site.cache.holds(source.expected.key)


async def test_a_blob_whose_folder_cannot_be_synced_is_kept(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.is_dir() and path.is_relative_to(site.store.blobs):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    for _ in range(2):
        assert await site.read(source) == source.data
        await site.event(FillEnded)
    assert site.cache.holds(source.expected.key)
    assert (site.files("quarantine"), source.sent) == ([], SIZE)


async def test_a_disk_that_cannot_sync_hinders_nothing(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(record_bytes=CHUNK))
    site.store.failures["record"] = OSError(errno.ENOSPC, "No space left on device")
    assert await site.read(source) == source.data
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert site.cache.holds(source.expected.key)


async def test_a_proven_blob_that_cannot_be_kept_is_still_served(
    site: Site, source: ScriptedSource
) -> None:
    site.store.failures["commit"] = OSError(28, "No space left on device")
    assert await site.read(source) == source.data
    assert (await site.event(FillEnded)).outcome is Outcome.FAILED
    assert not site.cache.holds(source.expected.key)


@pytest.mark.parametrize("step_name", ["reject", "discard", "record"])
async def test_a_disk_that_fails_at_the_end_hides_neither_the_end_nor_its_reason(
    site: Site, source: ScriptedSource, step_name: str
) -> None:
    expected = source.expected
    error: type[CacheError] = SourceGone
    site.store.failures[step_name] = OSError(5, "Input/output error")
    if step_name == "reject":
        source.data, error = flipped(source.data, 0), ResumeUnsafe
    else:
        source.drops.add(0 if step_name == "discard" else CHUNK)
        gate = source.gate(0 if step_name == "discard" else CHUNK)
    with site.cache.read(expected, source, SIZE - 1, SIZE) as reader:
        reading = asyncio.create_task(rest(reader))
        if step_name != "reject":
            source.refusals.append(SourceGone("gone"))
            gate.open()
        with pytest.raises(error):
            await reading
    assert site.cache.fills() == []
