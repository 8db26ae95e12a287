"""A disk that hangs and says no error: its blobs pass through from upstream, and all else goes on."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.aio import workers
from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache import page_cache
from omaha_mirror.cache.events import FillEnded, Uncached
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, rest, step
from tests.cache.source import ScriptedSource, random_source

SIZE = 1024 * 1024
PATIENCE = 1.0


class Disk:
    """Calls that wait, like those of a disk that answers nobody, while they concern some files."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = threading.Semaphore(0)
        self.calls = 0
        self._hanging: set[str] = set()

    def hang(self, *paths: Path) -> None:
        """From now on nothing of these files, or of what is in these folders, is in memory, and the disk hangs."""
        self._hanging |= {str(path) for path in paths}
        page_cache._seen.clear()  # the moment is over in which they were

    def concerns(self, what: int | str | Path) -> bool:
        path = str(what)
        if isinstance(what, int):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{what}")
        return any(path.startswith(hanging) for hanging in self._hanging)

    def wait(self) -> None:
        self.calls += 1
        self.asked.release()
        self.answers.wait()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(workers, "PATIENCE", PATIENCE)
    preadv = os.preadv

    def slow_preadv(fd: int, buffers: Sequence[Any], offset: int, flags: int = 0) -> int:
        if not disk.answers.is_set() and disk.concerns(fd):
            if flags & os.RWF_NOWAIT:
                raise BlockingIOError
            disk.wait()
        return preadv(fd, buffers, offset, flags)

    def slow(name: str) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not disk.answers.is_set() and disk.concerns(args[0]):
                assert threading.current_thread() is not threading.main_thread(), name
                disk.wait()
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    monkeypatch.setattr(os, "preadv", slow_preadv)
    for name in ("open", "statvfs", "pwritev", "pread", "utime"):
        slow(name)
    yield disk
    disk.answers.set()
    while BLOBS.hanging(0.0):
        BLOBS.submit(int).result()


def path_of(site: Site, source: ScriptedSource) -> Path:
    return site.store.path(source.expected.key)


async def test_a_blob_whose_disk_hangs_passes_through_and_takes_few_threads(
    site: Site, disk: Disk
) -> None:
    bad, good = random_source(SIZE), random_source(SIZE)
    for source in (bad, good):
        assert await site.read(source) == source.data
    await site.event(FillEnded, 2)
    for source in (bad, good):
        assert await site.read(source) == source.data
    disk.hang(path_of(site, bad))
    reading = [asyncio.create_task(site.read(bad)) for _ in range(20)]
    await asyncio.to_thread(disk.asked.acquire)
    assert await site.read(good) == good.data
    assert await asyncio.gather(*reading) == [bad.data] * 20
    assert disk.calls <= page_cache.AT_ONCE + 1, "one more notes uses"
    assert bad.sent <= 3 * SIZE, "one flight for those who came together"
    before = disk.calls
    assert await site.read(bad) == bad.data
    assert disk.calls == before, "who comes later does not ask the disk"
    assert (good.sent, site.cache.holds(bad.expected.key)) == (SIZE, True)
    disk.answers.set()
    while BLOBS.hanging():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    sent = bad.sent
    assert await site.read(bad) == bad.data
    assert bad.sent == sent, "all is well again"


async def test_a_reader_in_the_middle_goes_on_from_upstream(site: Site, disk: Disk) -> None:
    source = ScriptedSource(os.urandom(3 * 8 * SIZE))
    assert await site.read(source) == source.data
    await site.event(FillEnded)
    with site.cache.read(source.expected, source, 0, source.expected.size) as reader:
        first = await step(reader)
        assert first
        disk.hang(path_of(site, source))
        assert first + await rest(reader) == source.data


async def test_when_no_thread_is_left_nobody_waits_for_one(
    make_site: MakeSite, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await make_site()
    blobs = [random_source(SIZE) for _ in range(6)]
    for source in blobs:
        await site.cache.fetch(source.expected, source)
    disk.hang(site.directory)
    reading = [asyncio.create_task(site.read(source)) for source in blobs]
    assert await asyncio.gather(*reading) == [source.data for source in blobs]
    assert all(event.reason for event in site.all(Uncached))
    new = random_source(SIZE)
    assert await site.read(new) == new.data
    assert not site.cache.holds(new.expected.key)
    disk.answers.set()
    while BLOBS.hanging():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert await site.read(new) == new.data
    await site.cache.fetch(new.expected, new)
    assert site.cache.holds(new.expected.key)


async def test_a_fill_whose_disk_hangs_is_left_and_its_readers_go_on(
    site: Site, disk: Disk
) -> None:
    source = random_source(SIZE)
    disk.hang(site.store.partial)
    reading = [asyncio.create_task(site.read(source)) for _ in range(3)]
    assert await asyncio.gather(*reading) == [source.data] * 3
    assert not site.cache.holds(source.expected.key)
    disk.answers.set()
    await site.cache.fetch(source.expected, source)
    assert await site.read(source) == source.data
