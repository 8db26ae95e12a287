"""Who waits at the edge of a healthy fill is fed a little of what is held back, so that no client times out."""

import asyncio
import time

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import GenerationEnded, NotInTime
from omaha_mirror.cache.events import FillEnded
from tests.cache.conftest import MakeSite
from tests.cache.site import HOLD_BACK, Site, rest, step
from tests.cache.source import CHUNK, ScriptedSource

SIZE = 256 * 1024
EDGE = SIZE - HOLD_BACK
PERIOD = 0.03
CRUMB = 100
TRICKLE = Limits(trickle_seconds=PERIOD, trickle_bytes=CRUMB, proof_seconds=0.0)


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(limits=TRICKLE)


async def test_a_reader_at_the_edge_gets_a_crumb_a_period_and_the_rest_when_proven(
    site: Site, source: ScriptedSource
) -> None:
    last = source.gate(SIZE - 1)
    got = b""
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        while len(got) < EDGE:
            got += await step(reader)
        for _ in range(3):
            fed = time.monotonic()
            crumb = await step(reader)
            assert time.monotonic() - fed >= 0.9 * PERIOD
            assert len(crumb) == CRUMB
            got += crumb
        last.open()
        tail = await step(reader)
        while len(tail) == CRUMB:  # one may have been due just then
            got += tail
            tail = await step(reader)
        assert len(tail) == SIZE - len(got), "the rest, at once"
        assert got + tail == source.data


async def test_the_last_byte_is_never_in_a_crumb(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Everything has come, and the proof does not come."""
    limits = Limits(trickle_seconds=0.02, trickle_bytes=100, patience=1.0, proof_seconds=0.0)
    site = await make_site(limits=limits)
    source.data = source.data[:250]
    hold = site.store.hold("read")
    with site.cache.read(source.expected, source, 0, 250) as reader:
        assert [len(await step(reader)) for _ in range(3)] == [100, 100, 49]
        with pytest.raises(NotInTime):
            await step(reader)
        assert reader.offset == 249
        hold.open()
        await site.event(FillEnded)
        assert await rest(reader) == source.data[249:]


async def test_nor_is_the_last_byte_of_a_range_whose_client_can_wait(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(trickle_seconds=0.02, trickle_bytes=100, patience=1.0))
    last, stop = source.gate(SIZE - 1), EDGE + 250
    with site.cache.read(source.expected, source, EDGE, stop) as reader:
        assert [len(await step(reader)) for _ in range(3)] == [100, 100, 49]
        with pytest.raises(NotInTime):
            await step(reader)
        last.open()
        await site.event(FillEnded)
        assert await rest(reader) == source.data[stop - 1 : stop]


async def test_bytes_that_come_to_a_hungry_reader_feed_it_within_a_period(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=TRICKLE, hold_back=SIZE)
    gate, _ = source.gate(0), source.gate(CHUNK)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        eating = asyncio.create_task(step(reader))
        await gate.reached.wait()
        await asyncio.sleep(3 * PERIOD)  # it gets hungry
        assert not eating.done(), "there is nothing to give"
        gate.open()
        async with asyncio.timeout(10):
            assert await eating == source.data[:CRUMB]


async def test_an_unhealthy_fill_feeds_nobody(make_site: MakeSite, source: ScriptedSource) -> None:
    """The source has been silent for longer than a client can be kept waiting."""
    site = await make_site(limits=Limits(trickle_seconds=2.0, trickle_bytes=CRUMB, patience=1.0))
    source.gate(SIZE - 1)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        with pytest.raises(NotInTime):
            await rest(reader)
        assert reader.offset == EDGE


async def test_a_fill_that_ended_wrong_feeds_nobody(site: Site, source: ScriptedSource) -> None:
    last, expected = source.gate(SIZE - 1), source.expected
    source.data = bytes(SIZE)
    with site.cache.read(expected, source, 0, SIZE) as reader:
        while reader.offset <= EDGE:
            await step(reader)
        last.open()
        await site.event(FillEnded)
        with pytest.raises(GenerationEnded):
            await step(reader)
        assert reader.offset < SIZE
