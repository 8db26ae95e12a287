"""A blob while it grows: one flight for all, and what leaves before it is proven."""

import asyncio
import os

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import (
    SourceGone,
)
from omaha_mirror.cache.events import Connected, FillEnded, Opened, Outcome
from tests.cache.conftest import MakeSite
from tests.cache.site import HOLD_BACK, Site, rest, step
from tests.cache.source import CHUNK, Open, ScriptedSource, random_source

SIZE = 2 * 1024 * 1024


FAR = SIZE - 512 * 1024


async def test_many_readers_one_flight(site: Site, source: ScriptedSource) -> None:
    data = source.data
    assert await asyncio.gather(*(site.read(source) for _ in range(20))) == [data] * 20
    assert source.opens == [Open(0, SIZE, None)]
    assert source.sent == SIZE
    assert [e.status for e in site.all(Opened)] == ["miss"] + ["filling"] * 19
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.fetched) == (Outcome.PROVEN, SIZE)


async def test_a_reader_may_join_at_any_time(site: Site, source: ScriptedSource) -> None:
    gates = [source.gate(at) for at in range(0, SIZE, SIZE // 4)]
    readers = []
    for gate in gates:
        readers.append(asyncio.create_task(site.read(source)))
        await gate.reached.wait()
        gate.open()
    assert await asyncio.gather(*readers) == [source.data] * 4
    await site.event(FillEnded)
    assert await site.read(source) == source.data
    assert [e.status for e in site.all(Opened)] == ["miss", "filling", "filling", "filling", "hit"]
    assert (source.sent, len(source.opens)) == (SIZE, 1)


async def test_bytes_leave_while_the_source_still_sends(site: Site, source: ScriptedSource) -> None:
    gate = source.gate(CHUNK)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        assert await step(reader) == source.data[:CHUNK]
        waiting = asyncio.create_task(step(reader))
        await gate.reached.wait()
        assert not waiting.done()
        gate.open()
        assert (await waiting).startswith(source.data[CHUNK : 2 * CHUNK])


async def test_the_end_leaves_only_when_the_digest_is_right(
    site: Site, source: ScriptedSource
) -> None:
    last = source.gate(SIZE - 1)
    got = b""
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        while len(got) < SIZE - HOLD_BACK:
            got += await step(reader)
        assert got == source.data[: SIZE - HOLD_BACK]
        tail = asyncio.create_task(rest(reader))
        await last.reached.wait()
        assert not tail.done()
        last.open()
        assert got + await tail == source.data


async def test_the_last_byte_of_a_range_waits_for_the_proof(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Nobody ends with unproven bytes who need not."""
    site = await make_site(limits=Limits())
    last = source.gate(SIZE - 1)
    with site.cache.read(source.expected, source, CHUNK, 2 * CHUNK) as reader:
        got = b""
        while len(got) < CHUNK - 1:
            got += await step(reader)
        assert len(got) == CHUNK - 1
        ending = asyncio.create_task(step(reader))
        await last.reached.wait()
        assert not ending.done()
        last.open()
        assert got + await ending == source.data[CHUNK : 2 * CHUNK]
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_a_range_ends_unproven_where_its_client_can_wait_no_longer(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(proof_seconds=0.05))
    last = source.gate(SIZE - 1)
    assert await site.read(source, CHUNK, 2 * CHUNK) == source.data[CHUNK : 2 * CHUNK]
    last.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


@pytest.mark.parametrize("hold_back", [1, SIZE, 10 * SIZE])
async def test_any_hold_back(make_site: MakeSite, source: ScriptedSource, hold_back: int) -> None:
    site = await make_site(hold_back=hold_back)
    assert await site.read(source) == source.data


@pytest.mark.parametrize("size", [0, 1, CHUNK])
async def test_small_blobs(site: Site, size: int) -> None:
    source = random_source(size)
    assert await site.read(source, stop=size) == source.data
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert site.cache.holds(source.expected.key)


async def test_no_reader_is_needed_to_finish(site: Site, source: ScriptedSource) -> None:
    gate = source.gate(CHUNK)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        await step(reader)
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert source.sent == SIZE


async def test_nobody_opens_a_connection_for_a_fill_that_is_ending(
    site: Site, source: ScriptedSource
) -> None:
    """A reader comes while the fill, refused by upstream, still waits for its last write."""
    hold, slow, far = site.store.hold("write"), source.gate(CHUNK), source.gate(FAR)
    source.drops.add(FAR)
    readers = [asyncio.create_task(site.read(source, at, at + 1)) for at in (0, FAR)]
    await asyncio.gather(hold.reached.wait(), slow.reached.wait(), far.reached.wait())
    source.refusals.append(SourceGone("gone"))
    far.open()
    await site.event(Connected, 3)
    for _ in range(9):
        await asyncio.sleep(0)
    readers.append(asyncio.create_task(site.read(source, SIZE // 2, SIZE)))
    await site.event(Opened, 3)
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(source.opens) == 3
    hold.open()
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(outcome, SourceGone)


async def test_a_cancelled_reader_leaves_no_trace(site: Site, source: ScriptedSource) -> None:
    for at in (0, CHUNK, SIZE - 1):
        gate = source.gate(at)
        reading = asyncio.create_task(site.read(source))
        await gate.reached.wait()
        assert [progress.readers for progress in site.cache.fills()] == [1]
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert [progress.readers for progress in site.cache.fills()] == [0]
        gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert site.open_files() == []
    assert source.sent == SIZE


async def test_the_file_stays_open_for_whoever_still_reads_it(
    site: Site, source: ScriptedSource
) -> None:
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        window = await reader.window()
        assert window is not None
        await site.event(FillEnded)
        assert str(site.store.path(source.expected.key)) in site.open_files()
        assert os.pread(window.file.fileno(), window.count, 0) == source.data[: window.count]
        assert await rest(reader) == source.data
    assert site.open_files() == []
