"""Connections that fail: what is tried again, and who is told."""

import asyncio

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import (
    CacheError,
    NotInTime,
    SourceFailed,
    SourceGone,
    SourceRefused,
)
from omaha_mirror.cache.events import FillEnded, Outcome, Trouble
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, rest
from tests.cache.source import CHUNK, Open, ScriptedSource

SIZE = 2 * 1024 * 1024


@pytest.mark.parametrize("at", [0, 1, CHUNK, SIZE // 2 + 7, SIZE - 1])
async def test_a_dropped_connection_goes_on_where_it_ended(
    site: Site, source: ScriptedSource, at: int
) -> None:
    source.drops.add(at)
    assert await site.read(source) == source.data
    assert source.opens == [Open(0, SIZE, None), Open(at, SIZE, None)]
    assert source.sent == SIZE
    assert site.all(Trouble)[0].position == at


async def test_failures_in_a_row_are_counted_and_progress_starts_the_count_again(
    site: Site, source: ScriptedSource
) -> None:
    source.refusals.extend([SourceFailed("busy"), SourceFailed("busy")])
    source.drops.update([CHUNK, 2 * CHUNK])
    assert await site.read(source) == source.data
    assert source.pauses == [1, 2, 1, 1]


async def test_an_answer_that_begins_elsewhere_is_not_written(
    site: Site, source: ScriptedSource
) -> None:
    source.shift = 1
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        reading = asyncio.create_task(rest(reader))
        trouble = await site.event(Trouble)
        assert "began at 1, not at 0" in trouble.reason
        source.shift = 0
        assert await reading == source.data


@pytest.mark.parametrize("error", [SourceGone, SourceRefused])
async def test_what_is_definite_reaches_all_readers(
    site: Site, source: ScriptedSource, error: type[CacheError]
) -> None:
    gate = source.gate(0)
    source.drops.add(0)
    readers = [asyncio.create_task(site.read(source, at)) for at in (0, 1, CHUNK)]
    await gate.reached.wait()
    source.refusals.append(error("no such file"))
    gate.open()
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(outcome, error)
    assert (await site.event(FillEnded)).outcome is Outcome.FAILED
    assert site.files("partial") == [], "nothing came, nothing is kept"


async def test_silence_lets_a_waiting_reader_go_and_the_fill_goes_on(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(patience=1.0))
    gate = source.gate(CHUNK)
    with (
        site.cache.read(source.expected, source, 0, SIZE) as reader,
        pytest.raises(NotInTime, match=r"nothing from http://upstream\.test/file"),
    ):
        await rest(reader)
    assert reader.offset == CHUNK
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_failing_for_as_long_as_a_reader_can_wait_ends_the_fill(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(patience=0.05))
    source.pause_seconds = 0.01
    source.refusals.extend(SourceFailed("no route") for _ in range(1000))
    with pytest.raises((NotInTime, SourceFailed), match="no route"):
        await site.read(source)
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "no route")


async def test_a_fill_that_failed_goes_on_with_the_next_reader(
    site: Site, source: ScriptedSource
) -> None:
    source.drops.add(SIZE // 2)
    gate = source.gate(SIZE // 2)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    source.refusals.append(SourceGone("gone"))
    gate.open()
    with pytest.raises(SourceGone):
        await reading
    assert await site.read(source) == source.data
    assert (source.sent, source.opens[-1].start) == (SIZE, SIZE // 2)
