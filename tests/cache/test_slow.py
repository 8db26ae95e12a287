"""A connection that hardly delivers while somebody waits is held against a second one."""

import asyncio

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import SourceFailed, SourceGone
from omaha_mirror.cache.events import FillEnded, Outcome, Trouble
from omaha_mirror.cache.hedging import Throughput
from tests.cache.conftest import MakeSite
from tests.cache.site import Site
from tests.cache.source import ScriptedSource

SIZE = 1 << 20
SLOW = Limits(slow_seconds=0.02, slow_rate=100_000, contest_seconds=0.1, proof_seconds=0.0)
FOR_EVER = SIZE
CONTEST = 30


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource(bytes(range(256)) * (SIZE // 256))


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(limits=SLOW)


def contests(site: Site) -> int:
    return sum("fewer than" in trouble.reason for trouble in site.all(Trouble))


async def test_the_second_one_is_gone_on_with_when_it_delivers_more(
    site: Site, source: ScriptedSource
) -> None:
    source.drips.append(FOR_EVER)
    assert await site.read(source) == source.data
    first, second = source.opens
    assert first.start < second.start < SIZE // 2
    assert contests(site) == 1
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.fetched) == (Outcome.PROVEN, SIZE)
    assert source.connected == 0


async def test_a_second_one_that_is_no_better_is_closed(site: Site, source: ScriptedSource) -> None:
    """And so is each that comes after it, until one of them is faster."""
    source.drips.extend([300] * 300)
    assert await site.read(source) == source.data
    assert contests(site) >= 1
    assert source.most_connected == 2
    assert (await site.event(FillEnded)).fetched == SIZE


@pytest.mark.parametrize("refusal", [SourceFailed("busy"), SourceGone("no such file")])
async def test_a_second_one_that_fails_changes_nothing(
    site: Site, source: ScriptedSource, refusal: SourceFailed | SourceGone
) -> None:
    source.drips.append(400)
    gate = source.gate(1)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    source.refusals.extend([refusal] * 400)
    gate.open()
    assert await reading == source.data
    assert contests(site) >= 1
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_nobody_is_hurried_for_whom_nobody_waits(site: Site, source: ScriptedSource) -> None:
    source.drips.append(300)
    assert await site.cache.fetch(source.expected, source) is not None
    assert len(source.opens) == 1


async def test_where_the_slow_one_ends_meanwhile_the_other_goes_on(
    site: Site, source: ScriptedSource
) -> None:
    source.drips.append(FOR_EVER)
    gate = source.gate(CONTEST)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    source.drops.add(CONTEST)
    gate.open()
    assert await reading == source.data
    assert (await site.event(FillEnded)).fetched == SIZE


def test_slow_is_what_delivers_little_while_it_is_waited_for() -> None:
    throughput = Throughput(60.0, 32.0)
    throughput.add(1, 75.0)
    assert not throughput.slow, "it was connecting"
    for _ in range(6):
        throughput.add(640, 10.0)
    assert not throughput.slow, "a mirror's trickle"
    for _ in range(24):
        throughput.add(1, 2.5)
    assert throughput.slow
    throughput.add(1 << 20, 60.0)
    assert not throughput.slow
    for _ in range(1000):
        throughput.add(1, 0.0)
    assert not throughput.slow, "nobody waited for it"
