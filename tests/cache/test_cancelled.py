"""A caller that is cancelled in the middle, as an HTTP handler is whose client leaves: the accounts agree with the disk."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from omaha_mirror.cache.events import Corrupted, FillEnded
from tests.cache.conftest import MakeSite
from tests.cache.site import Hold, Site
from tests.cache.source import CHUNK, ScriptedSource, random_source

SIZE = 4 * CHUNK


@pytest.fixture
def sources() -> list[ScriptedSource]:
    return [random_source(SIZE) for _ in range(3)]


async def cancelled_at(hold: Hold, work: Coroutine[Any, Any, object]) -> None:
    """Cancel something while a thread works for it; return when it has ended."""
    task = asyncio.create_task(work)
    await hold.reached.wait()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    hold.open()
    with pytest.raises(asyncio.CancelledError):
        await task


def blobs(site: Site) -> set[str]:
    return {name for name in site.files("blobs") if not name.endswith(".json")}


async def fill(site: Site, sources: list[ScriptedSource]) -> None:
    for source in sources:
        await site.cache.fetch(source.expected, source)


async def test_of_an_eviction_what_has_gone_is_out_of_the_accounts(
    site: Site, sources: list[ScriptedSource]
) -> None:
    await fill(site, sources)
    site.ledger.max_size = SIZE
    await cancelled_at(site.store.hold("remove"), site.cache.gc(dry_run=False))
    assert blobs(site) == set(site.ledger.entries)
    assert site.ledger.used == 2 * SIZE


@pytest.mark.parametrize("step_name", ["leftovers", "remove"])
async def test_a_removal_is_done(site: Site, sources: list[ScriptedSource], step_name: str) -> None:
    [source] = sources = sources[:1]
    await fill(site, sources)
    await cancelled_at(site.store.hold(step_name), site.cache.remove(source.expected.key))
    assert blobs(site) == set(site.ledger.entries) == set()
    assert await site.read(source) == source.data
    assert site.all(Corrupted) == []
    assert site.files("quarantine") == []


async def test_a_removal_that_the_disk_refuses_changes_nothing(
    site: Site, sources: list[ScriptedSource]
) -> None:
    await fill(site, sources)
    key = sources[0].expected.key
    site.store.failures["leftovers"] = OSError(5, "Input/output error")
    with pytest.raises(OSError, match="Input/output"):
        await site.cache.remove(key)
    assert key in blobs(site)
    assert site.cache.holds(key)


async def test_a_wrong_blob_is_put_aside_though_its_turn_came_late(
    site: Site, sources: list[ScriptedSource]
) -> None:
    await fill(site, sources)
    hold = site.store.hold("leftovers")
    first = asyncio.create_task(site.cache.gc(dry_run=True))
    await hold.reached.wait()
    await cancelled_at(hold, site.cache.quarantine(sources[0].expected.key, "a bit is wrong"))
    await first
    assert blobs(site) == set(site.ledger.entries) == {s.expected.key for s in sources[1:]}


async def take_in(site: Site, sources: list[ScriptedSource], *, commit: bool) -> None:
    async def pieces(source: ScriptedSource) -> AsyncIterator[bytes]:
        yield source.data

    async with site.cache.ingest() as ingest:
        for source in sources:
            await ingest.add(source.expected, pieces(source))
        if commit:
            await ingest.commit()


async def test_an_import_gives_all_names_once_it_has_begun(
    site: Site, sources: list[ScriptedSource]
) -> None:
    await cancelled_at(site.store.hold("name"), take_in(site, sources, commit=True))
    assert blobs(site) == set(site.ledger.entries) == {source.expected.key for source in sources}
    for source in sources:
        assert await site.read(source) == source.data
        assert source.opens == []


async def test_of_an_import_that_was_not_committed_nothing_stays(
    site: Site, sources: list[ScriptedSource]
) -> None:
    await cancelled_at(site.store.hold("incoming"), take_in(site, sources, commit=False))
    assert site.files("incoming") == []
    assert site.open_files() == []


async def test_a_fill_that_is_stopped_twice_ends_when_no_thread_writes_any_more(
    make_site: MakeSite, sources: list[ScriptedSource]
) -> None:
    site, source = await make_site(when_abandoned="stop"), sources[0]
    hold = site.store.hold("write")
    for _ in range(2):
        with site.cache.read(source.expected, source, 0, SIZE):
            await hold.reached.wait()
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
    assert site.cache.fills() != []
    hold.open()
    await site.event(FillEnded)
    assert await site.read(source) == source.data
