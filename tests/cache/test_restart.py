"""Stopping and starting again: nothing is left running, and what was had is had again."""

import asyncio
import os
import time

import pytest

from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache import Limits, space
from omaha_mirror.cache.errors import Stopping
from omaha_mirror.cache.events import FillEnded, FillStarted, Opened, Outcome
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, have, rest, step
from tests.cache.source import CHUNK, Open, ScriptedSource, random_source

SIZE = 1024 * 1024


HALF = SIZE // 2


async def test_a_fill_goes_on_after_a_restart_where_it_was(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    before = await make_site()
    gate = source.gate(HALF)
    with before.cache.read(source.expected, source, 0, SIZE) as reader:
        while reader.offset < HALF:
            await step(reader)
        waiting = asyncio.create_task(rest(reader))
        await gate.reached.wait()
        await before.cache.close()
        with pytest.raises(Stopping):
            await waiting
    assert (await before.event(FillEnded)).outcome is Outcome.STOPPED
    gate.open()
    after = await make_site()
    assert await after.read(source) == source.data
    assert (await after.event(FillStarted)).resumed == HALF
    assert source.opens[-1] == Open(HALF, SIZE, None)
    assert (await after.event(FillEnded)).fetched == SIZE - HALF
    assert source.sent == SIZE


async def test_what_a_slow_disk_reads_back_for_long_is_kept_and_holds_up_no_other_fill(
    make_site: MakeSite, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await make_site()
    gate, other = source.gate(HALF), random_source(SIZE)
    fetching = asyncio.create_task(before.cache.fetch(source.expected, source))
    await gate.reached.wait()
    await before.filled(HALF)
    await before.cache.close()
    with pytest.raises(Stopping):
        await fetching
    gate.open()
    monkeypatch.setattr(space, "SLOW", 0.1)
    monkeypatch.setattr(space, "SLOWEST", 1)
    after = await make_site()
    hold = after.store.hold("draft")
    fetching = asyncio.create_task(after.cache.fetch(source.expected, source))
    await hold.reached.wait()
    del after.store.holds["draft"]
    monkeypatch.setattr(space, "SLOW", 30.0)
    await after.cache.fetch(other.expected, other)
    while not BLOBS.hanging(0.2):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    hold.open()
    await fetching
    assert (source.sent, other.sent) == (SIZE, SIZE)
    assert after.cache.holds(source.expected.key)


async def test_a_fill_that_lacked_only_its_name_fetches_nothing(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    before = await make_site(limits=Limits(record_bytes=CHUNK))
    before.store.failures["commit"] = OSError(5, "Input/output error")
    assert await before.read(source) == source.data
    await before.event(FillEnded)
    after = await make_site()
    assert await after.read(source) == source.data
    ended = await after.event(FillEnded)
    assert ended.outcome is Outcome.PROVEN
    assert ended.fetched < SIZE


async def test_another_generation_upstream_ends_what_a_restart_found(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    before = await make_site()
    gate = source.gate(HALF)
    fetching = asyncio.create_task(before.cache.fetch(source.unnamed, source))
    await gate.reached.wait()
    await before.cache.close()
    with pytest.raises(Stopping):
        await fetching
    gate.open()
    source.replace(source.data)
    after = await make_site()
    assert await after.read(source, expected=source.unnamed) == source.data
    assert [e.outcome for e in after.all(FillEnded)][:1] == [Outcome.WRONG]
    assert (await after.event(FillEnded, 2)).fetched == SIZE


async def test_a_proven_blob_is_a_hit_after_a_restart(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    before = await make_site()
    await before.cache.fetch(source.expected, source)
    await before.cache.close()
    after = await make_site()
    assert after.cache.holds(source.expected.key)
    assert await after.read(source) == source.data
    assert after.all(Opened)[-1].status == "hit"
    assert source.sent == SIZE


async def test_a_use_is_remembered_across_a_restart(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site()
    key = await have(site, source, 0.0)
    os.utime(site.store.path(key), (1, 1))
    began = time.time()
    await site.read(source)
    assert site.ledger.entries[key].last_used >= began
    await site.cache.close()
    again = await make_site()
    assert again.ledger.entries[key].last_used == pytest.approx(began, abs=60)


@pytest.mark.parametrize("step_name", ["draft", "begin", "write", "read", "record", "commit"])
async def test_stopping_waits_for_the_step_under_way(
    make_site: MakeSite, source: ScriptedSource, step_name: str
) -> None:
    """No worker thread is left behind; what a new start finds is whole."""
    site = await make_site(limits=Limits(record_bytes=CHUNK))
    hold = site.store.hold(step_name)
    reading = asyncio.create_task(site.read(source))
    await hold.reached.wait()
    closing = asyncio.create_task(site.cache.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    assert len(site.cache.fills()) == 1
    hold.open()
    await closing
    (outcome,) = await asyncio.gather(reading, return_exceptions=True)
    assert outcome == source.data if step_name == "commit" else isinstance(outcome, Stopping)
    assert site.open_files() == []
    again = await make_site()
    assert again.cache.holds(source.expected.key) == (step_name == "commit")
    assert await again.read(source) == source.data


async def test_stopping_before_the_fill_has_begun_is_told_as_well(
    site: Site, source: ScriptedSource
) -> None:
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        await site.cache.close()
        with pytest.raises(Stopping):
            await rest(reader)
        with pytest.raises(Stopping), site.cache.read(source.expected, source, 0, SIZE):
            pass
