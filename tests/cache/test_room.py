"""Space for blobs: who goes, who stays, and what is not kept."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.cache.events import Evicted, FillEnded, Uncached
from omaha_mirror.cache.space import FILES
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, have, rest, step
from tests.cache.source import random_source
from tests.support.disks import small_disk

SIZE = 1024 * 1024


HALF = SIZE // 2


async def test_the_least_recently_used_goes(make_site: MakeSite) -> None:
    site = await make_site(max_size=3 * SIZE)
    blobs = [random_source(SIZE) for _ in range(3)]
    keys = [await have(site, blob, used) for blob, used in zip(blobs, (2.0, 1.0, 3.0), strict=True)]
    assert await site.read(random_source(SIZE)) != b""
    assert [site.cache.holds(key) for key in keys] == [True, False, True]
    assert site.all(Evicted) == [Evicted(keys[1], SIZE)]
    assert keys[1] not in site.files("blobs")


@pytest.mark.parametrize("how", ["read", "kept", "followed to the end"])
async def test_what_is_in_use_or_offered_is_never_evicted(make_site: MakeSite, how: str) -> None:
    blob, other = random_source(SIZE), random_source(SIZE)
    key = blob.expected.key
    site = await make_site(max_size=SIZE, keep=lambda kept: how == "kept" and kept == key)
    if how != "followed to the end":
        await site.cache.fetch(blob.expected, blob)
    with site.cache.read(blob.expected, blob, 0, SIZE) as reader:
        await step(reader)
        await site.event(FillEnded)
        if how == "kept":
            reader.close()  # and once more at the end of the block: that is nothing
        assert await site.read(other) == other.data, "it passes through"
        assert site.cache.holds(key)
        assert not site.cache.holds(other.expected.key)
        assert site.all(Evicted) == []
        assert [e.key for e in site.all(Uncached)] == [other.expected.key]
    if how != "kept":
        assert await site.read(other) == other.data
        assert not site.cache.holds(key)


async def test_fills_that_make_room_at_once_do_not_take_the_same_victim_twice(
    make_site: MakeSite,
) -> None:
    site = await make_site(max_size=3 * SIZE)
    old = [random_source(SIZE) for _ in range(3)]
    for used, blob in enumerate(old):
        await have(site, blob, float(used))
    hold = site.store.hold("remove")
    new = [random_source(SIZE) for _ in range(2)]
    fetching = [asyncio.create_task(site.read(blob)) for blob in new]
    await hold.reached.wait()
    del site.store.holds["remove"]
    hold.open()
    assert await asyncio.gather(*fetching) == [blob.data for blob in new]
    assert [e.key for e in site.all(Evicted)] == [blob.expected.key for blob in old[:2]]
    assert site.ledger.used == 3 * SIZE


async def test_a_victim_that_is_wanted_again_is_read_to_its_end_and_then_gone(
    make_site: MakeSite,
) -> None:
    """Its removal can never hit the new copy."""
    site = await make_site(max_size=2 * SIZE)
    victim, other = random_source(SIZE), random_source(SIZE)
    await have(site, victim, 0.0)
    await have(site, random_source(SIZE), 1.0)
    hold = site.store.hold("remove")
    first = asyncio.create_task(site.read(other))
    await hold.reached.wait()
    with site.cache.read(victim.expected, victim, 0, SIZE) as reader:
        assert await reader.window() is not None
        del site.store.holds["remove"]
        hold.open()
        assert await first == other.data
        assert not site.cache.holds(victim.expected.key)
        assert await rest(reader) == victim.data
    assert victim.sent == SIZE
    assert await site.read(victim) == victim.data
    await site.event(FillEnded, 4)
    assert site.cache.holds(victim.expected.key)
    assert victim.sent == 2 * SIZE


async def test_what_a_fill_has_written_is_not_counted_twice(make_site: MakeSite) -> None:
    """The disk's free space already lacks it."""
    site = await make_site()
    first, second = random_source(SIZE), random_source(SIZE)
    gate = first.gate(HALF)
    with site.cache.read(first.expected, first, 0, HALF) as reader:
        await rest(reader)
    site.store.free_bytes = SIZE + HALF
    assert await site.read(second) == second.data
    gate.open()
    await site.event(FillEnded, 2)


async def test_where_no_more_files_can_be_made_the_oldest_blobs_go(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are free all the while."""
    site = await make_site()
    blobs = [random_source(SIZE) for _ in range(4)]
    for used, blob in enumerate(blobs):
        await have(site, blob, float(used))
    left = FILES - 3
    monkeypatch.setattr(site.store, "files", lambda: left)
    new = random_source(SIZE)
    assert await site.read(new) == new.data
    await site.event(FillEnded, 5)
    assert [e.key for e in site.all(Evicted)] == [blob.expected.key for blob in blobs[:2]]
    assert site.cache.holds(new.expected.key)


async def test_a_disk_without_inodes_keeps_what_it_can_by_letting_others_go(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", size=64 * SIZE, files=290) as disk:
        site = await Site(disk / "cache").start()
        for number in range(256):  # they stay when their blobs go
            (disk / "cache" / "blobs" / f"{number:02x}").mkdir()
        blobs = [random_source(1000) for _ in range(30)]
        for blob in blobs:
            assert await site.read(blob) == blob.data
            assert await site.read(blob) == blob.data
        await site.event(FillEnded, len(blobs))
        assert site.all(Uncached) == []
        assert [blob.sent for blob in blobs] == [1000] * len(blobs)
        assert site.all(Evicted) != []
        await site.cache.close()
