"""Bytes stop coming in mid-body: a second connection asks again at the same offset, and what delivers first wins."""

import asyncio

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import GenerationEnded, NotInTime, SourceFailed, Stopping
from omaha_mirror.cache.events import Connected, FillEnded, Outcome, Trouble
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, rest, step
from tests.cache.source import Open, ScriptedSource

SIZE = 1024 * 1024
AT = 300_000


async def test_the_fresh_connection_wins_where_it_delivers_first(
    site: Site, source: ScriptedSource
) -> None:
    source.stall(AT)
    end = source.gate(SIZE - 1)
    reading = asyncio.create_task(site.read(source))
    await end.reached.wait()
    assert source.connected == 1, "the stalled one was closed"
    end.open()
    assert await reading == source.data
    assert source.opens == [Open(0, SIZE, None), Open(AT, SIZE, None)]
    assert source.sent == SIZE
    assert [(e.position, e.pause) for e in site.all(Trouble)] == [(AT, 0.0)]


async def test_the_stalled_connection_wins_where_it_delivers_first(
    site: Site, source: ScriptedSource
) -> None:
    stall, fresh, end = source.stall(AT), source.gate(AT), source.gate(SIZE - 1)
    reading = asyncio.create_task(site.read(source))
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    assert source.connected == 2
    stall.open()
    await end.reached.wait()
    assert source.connected == 1, "the fresh one was closed"
    end.open()
    assert await reading == source.data
    assert source.opens == [Open(0, SIZE, None), Open(AT, SIZE, None)]
    assert source.sent == SIZE


async def test_when_both_deliver_no_more_than_the_losers_chunk_comes_twice(
    site: Site, source: ScriptedSource
) -> None:
    stall, fresh = source.stall(AT), source.gate(AT)
    reading = asyncio.create_task(site.read(source))
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    stall.open()
    fresh.open()
    assert await reading == source.data
    assert SIZE <= source.sent <= SIZE + source.chunk


async def test_a_line_that_stalls_again_and_again_is_asked_again_each_time(
    site: Site, source: ScriptedSource
) -> None:
    offsets = [0, 1, AT, AT + 1, SIZE - 1]
    for at in offsets:
        source.stall(at)
    assert await site.read(source) == source.data
    assert [opened.start for opened in source.opens] == [0, *offsets]
    assert source.sent == SIZE


async def test_a_refused_fresh_connection_is_tried_again(
    site: Site, source: ScriptedSource
) -> None:
    source.stall(AT)
    before = source.gate(AT - 1)
    reading = asyncio.create_task(site.read(source))
    await before.reached.wait()
    source.refusals.extend([SourceFailed("busy"), SourceFailed("busy")])
    before.open()
    assert await reading == source.data
    assert source.pauses == [1, 2]
    assert source.sent == SIZE


async def test_the_stalled_connection_may_deliver_while_the_fresh_one_is_refused(
    site: Site, source: ScriptedSource
) -> None:
    stall, before = source.stall(AT), source.gate(AT - 1)
    source.pause_seconds = 60.0
    reading = asyncio.create_task(site.read(source))
    await before.reached.wait()
    source.refusals.append(SourceFailed("busy"))
    before.open()
    await stall.reached.wait()
    await site.event(Connected, 2)
    stall.open()
    assert await reading == source.data
    assert len(source.opens) == 2
    assert source.sent == SIZE


async def test_the_fresh_connection_may_deliver_after_the_stalled_one_died(
    site: Site, source: ScriptedSource
) -> None:
    stall, fresh = source.stall(AT), source.gate(AT)
    reading = asyncio.create_task(site.read(source))
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    stall.failure = SourceFailed("reset")
    stall.open()
    await asyncio.sleep(0)
    fresh.open()
    assert await reading == source.data
    assert len(source.opens) == 2


async def test_when_both_have_died_the_fill_goes_on_with_a_third(
    site: Site, source: ScriptedSource
) -> None:
    stall, fresh = source.stall(AT), source.gate(AT)
    source.drops.add(AT)
    reading = asyncio.create_task(site.read(source))
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    stall.failure = SourceFailed("reset")
    stall.open()
    fresh.open()
    assert await reading == source.data
    assert [opened.start for opened in source.opens] == [0, AT, AT]
    assert source.sent == SIZE


async def test_another_generation_on_the_fresh_connection_ends_the_fill(
    site: Site, source: ScriptedSource
) -> None:
    stall, before, data = source.stall(AT), source.gate(AT - 1), source.data
    with site.cache.read(source.unnamed, source, 0, SIZE) as reader:
        await step(reader)
        await before.reached.wait()
        source.replace(data)
        before.open()
        with pytest.raises(GenerationEnded):
            await rest(reader)
    ended = await site.event(FillEnded)
    assert (ended.outcome, "replaced" in ended.reason) == (Outcome.WRONG, True)
    assert (source.opens[1].start, source.connected) == (AT, 0)
    assert not stall.passable.is_set(), "nobody waited for the stalled one"


async def test_stopping_in_the_race_leaves_no_connection_open(
    site: Site, source: ScriptedSource
) -> None:
    """That no task is left either is checked of every site."""
    stall, fresh = source.stall(AT), source.gate(AT)
    reading = asyncio.create_task(site.read(source))
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    assert source.connected == 2
    await site.cache.close()
    assert source.connected == 0
    with pytest.raises(Stopping):
        await reading


async def test_silence_is_no_failure_before_nobody_waits_any_more(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(patience=0.05))
    stall, fresh = source.stall(AT), source.gate(AT)
    with pytest.raises(NotInTime, match="nothing from"):
        await site.read(source)
    await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
    assert site.all(FillEnded) == [], "it waits on by itself"
    source.drops.add(AT)
    stall.failure = SourceFailed("reset")
    stall.open()
    fresh.open()
    assert (await site.event(FillEnded)).outcome is Outcome.FAILED
