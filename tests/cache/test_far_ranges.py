"""A range far ahead gets a connection of its own, and no byte is fetched twice for it."""

import asyncio

from omaha_mirror.cache import Limits
from omaha_mirror.cache.events import FillEnded, Opened, Outcome
from tests.cache.conftest import MakeSite
from tests.cache.site import Site
from tests.cache.source import CHUNK, Open, ScriptedSource, random_source

SIZE = 2 * 1024 * 1024


FAR = SIZE - 512 * 1024


async def test_a_far_range_on_a_cold_blob_comes_first(site: Site, source: ScriptedSource) -> None:
    source.gate(0)
    assert await site.read(source, FAR, FAR + 1112) == source.data[FAR : FAR + 1112]
    assert source.opens[0] == Open(FAR, SIZE, None)
    source.gate(0).open()
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.fetched, source.sent) == (Outcome.PROVEN, SIZE, SIZE)
    assert source.opens[1] == Open(0, FAR, None)


async def test_a_far_range_on_a_filling_blob_gets_its_own_connection(
    site: Site, source: ScriptedSource
) -> None:
    slow = source.gate(CHUNK)
    first = asyncio.create_task(site.read(source))
    await slow.reached.wait()
    assert await site.read(source, FAR, FAR + 1112) == source.data[FAR : FAR + 1112]
    assert [o.start for o in source.opens] == [0, FAR]
    slow.open()
    assert await first == source.data
    assert (await site.event(FillEnded)).fetched == SIZE
    assert source.sent == SIZE, "the first connection stopped where the second had begun"


async def test_connections_of_a_cold_blob_agree_on_one_generation(
    site: Site, source: ScriptedSource
) -> None:
    readers = [site.read(source), site.read(source, FAR, FAR + 1112)]
    whole, part = await asyncio.gather(*readers)
    assert (whole, part) == (source.data, source.data[FAR : FAR + 1112])
    assert source.opens[:2] == [Open(0, FAR, None), Open(FAR, SIZE, None)]
    await site.event(FillEnded)
    assert source.sent == SIZE


async def test_a_near_range_waits_for_the_first_connection(
    site: Site, source: ScriptedSource
) -> None:
    gate = source.gate(0)
    first = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    second = asyncio.create_task(site.read(source, CHUNK, CHUNK + 9))
    gate.open()
    assert await second == source.data[CHUNK : CHUNK + 9]
    assert await first == source.data
    assert len(source.opens) == 1


async def test_bytes_on_their_way_to_the_disk_are_not_asked_for_again(
    site: Site, source: ScriptedSource
) -> None:
    hold, gate = site.store.hold("write"), source.gate(FAR)
    first = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    second = asyncio.create_task(site.read(source, FAR - CHUNK, FAR))
    await site.event(Opened, 2)
    await asyncio.sleep(0)
    hold.open()
    gate.open()
    assert await second == source.data[FAR - CHUNK : FAR]
    assert await first == source.data
    assert len(source.opens) == 1


async def test_there_are_never_more_connections_than_the_limit(make_site: MakeSite) -> None:
    size = 8 * 1024 * 1024
    source = random_source(size)
    site = await make_site(limits=Limits(max_connections=2, proof_seconds=0.0))
    starts = range(0, size, 1024 * 1024)
    gates = [source.gate(at) for at in starts]
    readers = [asyncio.create_task(site.read(source, at, at + CHUNK)) for at in starts]
    for gate, reader, at in zip(gates, readers, starts, strict=True):
        await gate.reached.wait()
        gate.open()
        assert await reader == source.data[at : at + CHUNK]
    assert source.most_connected == 2
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_who_went_without_a_connection_gets_one_when_a_reader_leaves(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """The line gives nothing at all meanwhile: only the leaving can be the occasion."""
    site = await make_site(limits=Limits(max_connections=1, proof_seconds=0.0))
    stalled = source.gate(0)
    first = asyncio.create_task(site.read(source, 0, CHUNK))
    await stalled.reached.wait()
    far = asyncio.create_task(site.read(source, FAR, FAR + 9))
    await site.event(Opened, 2)
    await asyncio.sleep(0)
    assert len(source.opens) == 1
    first.cancel()
    assert await far == source.data[FAR : FAR + 9]
    stalled.open()
    assert (await site.event(FillEnded)).fetched == SIZE
