"""Nodes of one CDN that differ in validators, before a line that drops: the digest decides."""

import asyncio

import pytest

from omaha_mirror.cache.errors import CacheError, GenerationEnded, ResumeUnsafe, SourceChanged
from omaha_mirror.cache.events import FillEnded, Outcome, Repaired
from omaha_mirror.cache.fill_state import TRIES, Nodes
from omaha_mirror.packages.payload_prover import PayloadProvers
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import Site, rest, step
from tests.cache.source import ScriptedSource, flipped

PAYLOAD = signed(pieces(40, 50_000))
SIZE = len(PAYLOAD)
OPERATIONS = operations(PAYLOAD)
HALF = OPERATIONS[20][0]


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(provers=PayloadProvers())


async def test_a_part_from_another_node_goes_on_where_the_first_ended(
    site: Site, source: ScriptedSource
) -> None:
    drops = [OPERATIONS[i][0] + 7 for i in (3, 9, 20, 21, 33)]
    source.drops.update(drops)
    source.nodes.extend((f'"{i % 2}"', PAYLOAD) for i in range(6))
    assert await site.read(source) == PAYLOAD
    assert [(o.start, o.validator) for o in source.opens] == [(at, None) for at in (0, *drops)]
    assert (source.sent, (await site.event(FillEnded)).outcome) == (SIZE, Outcome.PROVEN)


async def test_a_restart_goes_on_with_another_node(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    before = await make_site(provers=PayloadProvers())
    gate = source.gate(HALF)
    fetching = asyncio.create_task(before.cache.fetch(source.expected, source))
    await gate.reached.wait()
    await before.cache.close()
    with pytest.raises(CacheError):
        await fetching
    gate.open()
    source.replace(PAYLOAD)
    after = await make_site(provers=PayloadProvers())
    assert await after.read(source) == PAYLOAD
    assert source.sent == SIZE


async def test_the_node_that_gives_the_same_wrong_operation_twice_is_left(
    site: Site, source: ScriptedSource
) -> None:
    start, stop = OPERATIONS[25]
    bad = ('"bad"', flipped(PAYLOAD, start + 5))
    good = ('"good"', PAYLOAD)
    source.drops.add(HALF)
    # The first connection, the one that goes on, and those that fetch the operation again.
    source.nodes.extend([good, bad, bad, bad, good])
    assert await site.read(source) == PAYLOAD
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert [(m.start, m.stop) for m in site.all(Repaired)] == [(start, stop)] * 2
    assert source.sent <= SIZE + 3 * (stop - start)


async def test_where_no_other_node_answers_the_file_was_replaced(
    site: Site, source: ScriptedSource
) -> None:
    start, _ = OPERATIONS[25]
    bad = ('"bad"', flipped(PAYLOAD, start + 5))
    source.drops.add(HALF)
    source.nodes.extend([('"good"', PAYLOAD), *[bad] * 40])
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        with pytest.raises(GenerationEnded, match="no other one does"):
            await rest(reader)
        assert reader.offset == start
    assert source.sent < 2 * SIZE


async def test_where_nothing_says_which_bytes_are_wrong_it_costs_one_round(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """The next round has one validator, and goes on looking for the node that has it."""
    site = await make_site()
    bad, good = ('"bad"', flipped(PAYLOAD, HALF + 5)), ('"good"', PAYLOAD)
    source.drops.add(HALF)
    source.nodes.extend([good, bad, good, bad, bad, good])
    end = source.gate(SIZE - 1)
    with site.cache.read(source.expected, source, 0, SIZE) as begun:
        await step(begun)
        end.open()
        fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
        with pytest.raises(GenerationEnded):
            await rest(begun)
    with pytest.raises(ResumeUnsafe), site.cache.read(source.expected, source, HALF, SIZE):
        pass
    gate = source.gate(HALF)
    await gate.reached.wait()
    source.drops.add(HALF)
    gate.open()
    assert await fetching is not None
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.WRONG, Outcome.PROVEN]
    held = [(o.validator or {}).get("etag") for o in source.opens]
    assert held == [None, None, None, '"good"', '"good"', '"good"']


async def test_in_such_a_round_a_node_that_never_answers_again_ends_it(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site()
    bad, good = ('"bad"', flipped(PAYLOAD, HALF - 5)), ('"good"', PAYLOAD)
    source.drops.add(HALF)
    source.nodes.extend([bad, good, bad, *[good] * (TRIES + 1)])
    gate = source.gate(SIZE - 1)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    source.drops.add(HALF)
    gate.open()
    assert await fetching is not None
    assert [e.outcome for e in site.all(FillEnded)] == [*[Outcome.WRONG] * 2, Outcome.PROVEN]
    assert not source.nodes


@pytest.mark.parametrize("others", [1, TRIES])
async def test_a_node_with_a_file_of_another_size_is_passed_by(
    site: Site, source: ScriptedSource, others: int
) -> None:
    """Another one may have the right file, where a digest tells which that is."""
    source.refusals.extend([SourceChanged("the file has 7 bytes now")] * others)
    assert await site.read(source) == PAYLOAD
    assert len(source.opens) == others + 1
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


def test_a_lone_node_is_not_left() -> None:
    nodes = Nodes()
    nodes.received({"etag": "1", "date": "a"}, 0, 10)
    nodes.received({"etag": "1", "date": "b"}, 10, 20)
    assert not nodes.mixed
    nodes.exclude(0, 10)
    assert not nodes.is_excluded({"etag": "1"})


def test_only_who_gave_the_bytes_last_is_left() -> None:
    nodes = Nodes()
    nodes.received({"etag": "1"}, 0, 10)
    nodes.received({"etag": "2"}, 10, 20)
    nodes.received({"etag": "2"}, 0, 10)
    nodes.exclude(5, 6)
    assert nodes.is_excluded({"etag": "2"})
    assert not nodes.is_excluded({"etag": "1"})
