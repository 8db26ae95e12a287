"""`when_abandoned: stop`: a fill that nobody waits for any more ends, and goes on with the next reader."""

import asyncio
import hashlib

import pytest

from omaha_mirror.cache import FetchScheduler, Limits
from omaha_mirror.cache.errors import GenerationEnded
from omaha_mirror.cache.events import FillEnded, Outcome
from omaha_mirror.packages.payload_prover import PayloadProvers
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import Site, rest, step
from tests.cache.source import Open, ScriptedSource, random_source

SIZE = 1024 * 1024
HALF = SIZE // 2


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(when_abandoned="stop")


async def test_a_fill_stops_with_its_last_reader_and_goes_on_with_the_next(
    site: Site, source: ScriptedSource
) -> None:
    gate = source.gate(HALF)
    with site.cache.read(source.expected, source, 0, SIZE) as last:
        with site.cache.read(source.expected, source, 0, SIZE) as first:
            await step(first)
            await gate.reached.wait()
        while last.offset < HALF:
            await step(last)
        assert site.all(FillEnded) == [], "somebody still reads"
    assert (await site.event(FillEnded)).outcome is Outcome.STOPPED
    assert source.connected == 0
    gate.open()
    assert await site.read(source) == source.data
    assert source.opens == [Open(0, SIZE, None), Open(HALF, SIZE, None)]
    assert source.sent == SIZE


async def test_a_fill_that_fetch_waits_for_does_not_stop(
    site: Site, source: ScriptedSource
) -> None:
    gate = source.gate(HALF)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        await step(reader)
    gate.open()
    assert await fetching is not None
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_a_reader_that_had_all_of_it_does_not_stop_the_keeping(
    site: Site, source: ScriptedSource
) -> None:
    """The last byte leaves before the blob has its name."""
    hold = site.store.hold("commit")
    assert await site.read(source) == source.data
    await hold.reached.wait()
    hold.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert site.cache.holds(source.expected.key)
    assert await site.read(source) == source.data
    assert source.sent == SIZE


async def test_a_fill_that_cut_its_last_reader_finds_out_what_is_wrong(make_site: MakeSite) -> None:
    """Else the next one would go on with the same wrong manifest, and cut its readers too, for ever."""
    payload = signed(pieces(4, 50_000))
    source = ScriptedSource(payload)
    (start, stop), *_ = operations(payload)
    source.flips[payload.index(hashlib.sha256(payload[start:stop]).digest())] += 1
    gate = source.gate(stop - 1)
    limits = Limits(trickle_seconds=0.02, trickle_bytes=100, proof_seconds=0.0)
    site = await make_site(when_abandoned="stop", provers=PayloadProvers(), limits=limits)
    with site.cache.read(source.expected, source, 0, len(payload)) as reader:
        while reader.offset <= start:
            await step(reader)
        gate.open()
        with pytest.raises(GenerationEnded):
            await rest(reader)
    assert (await site.event(FillEnded)).outcome is Outcome.WRONG
    assert await site.read(source, 0, len(payload)) == payload


async def test_an_abandoned_fill_leaves_the_queue(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(when_abandoned="stop", scheduler=FetchScheduler(max_fills=1))
    other = random_source(SIZE)
    gate = source.gate(0)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    with site.cache.read(other.expected, other, 0, SIZE):
        await asyncio.sleep(0)
        assert [fill.queued for fill in site.cache.fills()] == [0, 1]
    assert (await site.event(FillEnded)).key == other.expected.key
    assert [fill.queued for fill in site.cache.fills()] == [0]
    gate.open()
    assert await reading == source.data
    assert other.opens == []


async def test_otherwise_a_fill_finishes_without_readers(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site()
    gate = source.gate(HALF)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        await step(reader)
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
