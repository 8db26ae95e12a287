"""Proof by operation, with a real cache: what is wrong is fetched again before it leaves, and nobody notices."""

import asyncio
import hashlib
from contextlib import ExitStack
from random import Random

import pytest

from omaha_mirror.cache import Limits, Reader
from omaha_mirror.cache.errors import (
    CoolingDown,
    GenerationEnded,
    NotInTime,
    ResumeUnsafe,
    Stopping,
)
from omaha_mirror.cache.events import Connected, FillEnded, FillStarted, Outcome, Repaired
from omaha_mirror.packages.payload_prover import LARGE, PayloadProvers
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import HOLD_BACK, NO_WAIT_FOR_PROOF, Site, rest, step
from tests.cache.source import CHUNK, Open, ScriptedSource, random_source

PAYLOAD = signed(pieces(40, 50_000))
SIZE = len(PAYLOAD)
OPERATIONS = operations(PAYLOAD)
HEAD, TAIL = OPERATIONS[0][0], OPERATIONS[-1][1]
HUNGRY = Limits(trickle_seconds=0.03, trickle_bytes=100, proof_seconds=0.0)


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(provers=PayloadProvers())


async def until(reader: Reader, offset: int) -> bytes:
    got = b""
    while reader.offset < offset:
        got += await step(reader)
    return got


async def test_a_reader_gets_head_and_operations_each_when_it_is_whole_and_the_end_with_the_proof(
    site: Site, source: ScriptedSource
) -> None:
    inside, last = source.gate(OPERATIONS[9][1] - 1), source.gate(SIZE - 1)
    edges = []
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        got = await until(reader, OPERATIONS[9][0])
        await inside.reached.wait()
        inside.open()
        while reader.offset < TAIL:
            got += await step(reader)
            edges.append(reader.offset)
        await last.reached.wait()
        last.open()
        got += await step(reader)
    assert set(edges) <= {stop for _, stop in OPERATIONS}
    assert (got, source.sent) == (PAYLOAD, SIZE)


async def test_a_head_that_nothing_has_proven_is_synced_before_it_leaves(
    site: Site, source: ScriptedSource
) -> None:
    hold = site.store.hold("record")
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        first = asyncio.create_task(step(reader))
        await hold.reached.wait()
        await site.filled(SIZE)
        assert not first.done()
        hold.open()
        assert (await first) + await rest(reader) == PAYLOAD


@pytest.mark.parametrize("seed", range(3))
async def test_ten_flipped_bytes_cost_ten_operations_and_nobody_notices(
    site: Site, source: ScriptedSource, seed: int
) -> None:
    rng = Random(seed)
    wrong = rng.sample(OPERATIONS, 10)
    source.flips.update(rng.randrange(start, stop) for start, stop in wrong)
    starts = [0, 0, 0, 0, *(rng.randrange(SIZE) for _ in range(3))]
    ranges = [(start, SIZE) for start in starts]
    ranges += [(0, 1113), (1, SIZE - 1), (rng.randrange(SIZE // 2), rng.randrange(SIZE // 2, SIZE))]
    got = await asyncio.gather(*(site.read(source, *range_) for range_ in ranges))
    assert got == [PAYLOAD[start:stop] for start, stop in ranges]
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.fetched) == (
        Outcome.PROVEN,
        SIZE + sum(stop - start for start, stop in wrong),
    )
    mended = site.all(Repaired)
    assert sorted((m.start, m.stop) for m in mended) == sorted(wrong)
    assert not any(m.leaked for m in mended)
    assert not source.flips.total()


async def test_what_was_wrong_is_fetched_on_its_own_while_the_rest_goes_on(
    site: Site, source: ScriptedSource
) -> None:
    """Nobody waits for it, and the line is not at its end."""
    start, stop = OPERATIONS[3]
    source.flips[start] = 1
    later = source.gate(OPERATIONS[20][0])
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await site.event(Connected, 2)
    assert not later.passable.is_set()
    assert source.opens[1] == Open(start, stop, None)
    later.open()
    assert await fetching is not None
    assert source.sent == SIZE + stop - start


@pytest.mark.parametrize(
    "at", [0, 3, 11, 12, 19, 20, TAIL, TAIL + 9, SIZE - 1], ids=lambda at: f"byte {at}"
)
async def test_a_flipped_byte_that_makes_header_manifest_or_signatures_unreadable_goes_unnoticed(
    site: Site, source: ScriptedSource, at: int
) -> None:
    source.flips[at] = 1
    got = await asyncio.gather(site.read(source), site.read(source, 9), site.read(source, TAIL - 9))
    assert list(got) == [PAYLOAD, PAYLOAD[9:], PAYLOAD[TAIL - 9 :]]
    assert [e.outcome for e in [await site.event(FillEnded)]] == [Outcome.PROVEN]
    assert len(site.all(Repaired)) == 1


async def test_a_wrong_digest_in_the_manifest_costs_a_round_and_nobody_completes(
    site: Site, source: ScriptedSource
) -> None:
    """The operation that it belongs to is never right."""
    start, stop = OPERATIONS[7]
    source.flips[PAYLOAD.index(hashlib.sha256(PAYLOAD[start:stop]).digest())] = 1
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        with pytest.raises(GenerationEnded, match=f"bytes {start} to {stop} were wrong 3 times"):
            await rest(reader)
        assert reader.offset == start
    assert await site.read(source) == PAYLOAD
    await site.event(FillEnded, 2)
    assert [e.outcome for e in site.all(FillEnded)] == [Outcome.WRONG, Outcome.PROVEN]


async def test_what_is_wrong_each_time_ends_the_round_and_in_the_end_cools_down(
    site: Site, source: ScriptedSource
) -> None:
    start, _ = OPERATIONS[7]
    source.flips[start] = 100
    with pytest.raises(CoolingDown, match="were wrong 3 times"):
        await site.cache.fetch(source.expected, source)
    assert len(site.all(FillEnded)) == 3
    assert sum(opened.start == start for opened in source.opens) == 6, "and three in passing"


async def test_another_payload_under_the_same_name_completes_no_range_of_who_can_wait(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """It is right in itself, operation by operation, and only the whole tells that it is another."""
    site = await make_site(provers=PayloadProvers(), limits=Limits())
    other = signed(pieces(40, 50_000, b"other"))
    assert len(other) == SIZE
    expected, source.data = source.expected, other
    last = source.gate(SIZE - 1)
    span = OPERATIONS[3][0], OPERATIONS[5][1]
    with site.cache.read(expected, source, *span) as reader:
        getting = asyncio.create_task(rest(reader))
        await last.reached.wait()
        source.data = PAYLOAD
        last.open()
        with pytest.raises(GenerationEnded):
            await getting
        assert reader.offset < reader.stop
    assert await site.read(source) == PAYLOAD


# Ranges


async def test_a_range_ends_with_its_operations_where_its_client_cannot_wait_for_the_whole(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(provers=PayloadProvers(), limits=NO_WAIT_FOR_PROOF)
    gate = source.gate(OPERATIONS[9][1] - 1)
    for start, stop in (
        (HEAD, HEAD + 1),
        (OPERATIONS[1][0] + 5, OPERATIONS[3][0] + 1),
        (OPERATIONS[8][0] + 7, OPERATIONS[8][1]),
    ):
        assert await site.read(source, start, stop) == PAYLOAD[start:stop]
    with site.cache.read(source.expected, source, HEAD, OPERATIONS[9][0] + 1) as reader:
        await until(reader, OPERATIONS[9][0])
        ending = asyncio.create_task(step(reader))
        await gate.reached.wait()
        await site.filled(OPERATIONS[9][1] - 1)
        assert not ending.done()
        gate.open()
        assert await ending == PAYLOAD[OPERATIONS[9][0] :][:1]


async def test_an_unproven_end_of_a_range_is_in_no_crumb(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(trickle_seconds=0.02, trickle_bytes=100, patience=1.0, proof_seconds=0.0)
    site = await make_site(provers=PayloadProvers(), limits=limits)
    start, stop = OPERATIONS[9]
    gate = source.gate(stop - 1)
    with site.cache.read(source.expected, source, start, start + 250) as reader:
        assert [len(await step(reader)) for _ in range(3)] == [100, 100, 49]
        with pytest.raises(NotInTime):
            await step(reader)
        gate.open()
        await site.event(FillEnded)
        assert await rest(reader) == PAYLOAD[start + 249 : start + 250]


async def test_a_far_range_on_a_cold_package_gets_head_and_its_operations_first(
    site: Site, source: ScriptedSource
) -> None:
    """Its own operation is fetched from its start; all the rest can wait."""
    far = OPERATIONS[30][0] + 20_000
    gates = source.gate(HEAD), source.gate(OPERATIONS[30][1])
    assert await site.read(source, far, far + 10_000) == PAYLOAD[far : far + 10_000]
    assert [opened.start for opened in source.opens] == [0, OPERATIONS[30][0]]
    assert not site.all(FillEnded)
    for gate in gates:
        gate.open()
    await site.event(FillEnded)
    assert source.sent <= SIZE + CHUNK


# Bytes that left


async def test_who_got_crumbs_of_a_wrong_operation_is_cut_and_nobody_else(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(provers=PayloadProvers(), limits=HUNGRY)
    start, stop = OPERATIONS[3]
    source.flips[start + 5] = 1
    gate = source.gate(stop - 1)
    with ExitStack() as stack:
        fed, near, behind = (
            stack.enter_context(site.cache.read(source.expected, source, at, SIZE))
            for at in (0, 0, 0)
        )
        await until(fed, start + 100)
        await until(near, start)
        await gate.reached.wait()
        gate.open()
        with pytest.raises(GenerationEnded, match="sent so far"):
            await rest(fed)
        assert PAYLOAD[start:] == await rest(near)
        assert await rest(behind) == PAYLOAD
    [mended] = site.all(Repaired)
    assert mended.leaked
    assert len(site.all(FillStarted)) == 1
    for place in site, await make_site(provers=PayloadProvers()):
        with (
            pytest.raises(ResumeUnsafe),
            place.cache.read(source.expected, source, start + 100, SIZE),
        ):
            pass
        assert await place.read(source) == PAYLOAD


# An operation that is too large to wait for

BIG = signed([*pieces(1, LARGE + 1), *pieces(3, 1000)])


async def test_a_large_operation_leaves_as_it_comes_short_of_the_held_back_end(site: Site) -> None:
    source = ScriptedSource(BIG)
    gate = source.gate(LARGE // 2)
    with site.cache.read(source.expected, source, 0, len(BIG)) as reader:
        got = await until(reader, LARGE // 2)
        gate.open()
        assert got + await rest(reader) == BIG


async def test_a_wrong_large_operation_cuts_who_got_of_it_and_is_fetched_alone(site: Site) -> None:
    source = ScriptedSource(BIG)
    [(start, stop), *_] = operations(BIG)
    source.flips[start + 9] = 1
    gate = source.gate(stop - 1)
    with (
        site.cache.read(source.expected, source, 0, len(BIG)) as begun,
        site.cache.read(source.expected, source, stop, len(BIG)) as after,
    ):
        await until(begun, LARGE // 2)
        await gate.reached.wait()
        gate.open()
        with pytest.raises(GenerationEnded, match="sent so far"):
            await rest(begun)
        assert await rest(after) == BIG[stop:]
    assert await site.read(source) == BIG
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert source.sent == len(BIG) + stop - start
    assert len(site.all(FillStarted)) == 1


# After a restart


async def close_at(site: Site, source: ScriptedSource, offset: int) -> None:
    """Have all before `offset` here, and stop as a crash does: nothing more is recorded."""
    gate = source.gate(offset)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    await site.filled(offset)
    await site.cache.close()
    with pytest.raises(Stopping):
        await fetching
    gate.open()


async def test_a_wrong_byte_on_the_disk_is_found_after_a_restart_and_nobody_is_refused(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """Nothing of that operation had left: who has what is before it goes on."""
    start, stop = OPERATIONS[9]
    source.flips[start + 3] = 1
    await close_at(await make_site(provers=PayloadProvers()), source, stop - 10)
    site = await make_site(provers=PayloadProvers())
    got = await asyncio.gather(site.read(source), site.read(source, start), site.read(source, 7))
    assert list(got) == [PAYLOAD, PAYLOAD[start:], PAYLOAD[7:]]
    [mended] = site.all(Repaired)
    assert (mended.start, mended.stop, mended.leaked) == (start, stop, False)


async def test_what_was_taken_back_is_not_believed_after_a_restart(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """The rest of what was written together with it is."""
    site = await make_site(provers=PayloadProvers())
    start, stop = OPERATIONS[9]
    source.flips[start] = 1
    end, again = source.gate(OPERATIONS[20][0]), source.gate(start)
    again.passable.set()
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await again.reached.wait()
    again.reached.clear()
    again.passable.clear()
    await site.event(Repaired)
    await again.reached.wait()
    await end.reached.wait()
    await site.filled(OPERATIONS[20][0] - (stop - start))
    await site.cache.close()
    with pytest.raises(Stopping):
        await fetching
    sent = source.sent
    again.open()
    end.open()
    site = await make_site(provers=PayloadProvers())
    assert await site.read(source) == PAYLOAD
    assert (await site.event(FillStarted)).resumed == OPERATIONS[20][0] - (stop - start)
    assert source.sent - sent == SIZE - OPERATIONS[20][0] + stop - start
    assert site.all(Repaired) == []


async def test_after_crumbs_a_restart_trusts_nobody_with_what_turns_out_wrong(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(provers=PayloadProvers(), limits=HUNGRY)
    start, stop = OPERATIONS[9]
    source.flips[start] = 1
    gate = source.gate(stop - 1)
    with site.cache.read(source.expected, source, start, SIZE) as reader:
        await until(reader, start + 100)
        await site.cache.close()
    gate.open()
    site = await make_site(provers=PayloadProvers())
    assert await site.read(source) == PAYLOAD
    assert [m.leaked for m in site.all(Repaired)] == [True]
    with pytest.raises(ResumeUnsafe):
        await site.read(source, start + 100)


# In passing


async def test_wrong_operations_are_mended_in_passing_too(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(spool=4 * 64 * 1024, pending=CHUNK, proof_seconds=0.0)
    site = await make_site(max_size=SIZE - 1, limits=limits, provers=PayloadProvers())
    wrong = OPERATIONS[3], OPERATIONS[4], OPERATIONS[20]
    source.flips.update(start + 9 for start, _ in wrong)
    got = await asyncio.gather(
        site.read(source), site.read(source), site.read(source, 5, SIZE // 2)
    )
    assert list(got) == [PAYLOAD, PAYLOAD, PAYLOAD[5 : SIZE // 2]]
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert sorted((m.start, m.stop) for m in site.all(Repaired)) == list(wrong)


@pytest.mark.parametrize("wrong", [False, True])
async def test_in_passing_what_does_not_fit_into_memory_is_judged_with_the_whole(
    make_site: MakeSite, wrong: bool
) -> None:
    source = ScriptedSource(signed([*pieces(1, 600_000), *pieces(3, 1000)]))
    size = len(source.data)
    source.flips[1000] = int(wrong)
    limits = Limits(spool=256 * 1024, pending=CHUNK, proof_seconds=0.0)
    site = await make_site(max_size=size - 1, limits=limits, provers=PayloadProvers())
    if wrong:
        with pytest.raises(GenerationEnded):
            await site.read(source)
    assert await site.read(source) == source.data


async def test_a_disk_that_fills_up_in_an_operation_stops_nobody(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(spool=4 * 64 * 1024, pending=CHUNK, proof_seconds=0.0)
    site = await make_site(limits=limits, provers=PayloadProvers())
    source.flips.update([OPERATIONS[1][0], OPERATIONS[9][0], OPERATIONS[30][0]])
    gate = source.gate(OPERATIONS[9][0] + 10_000)
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    site.store.failures["write"] = OSError(28, "No space left on device")
    gate.open()
    assert await reading == PAYLOAD
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_what_is_wrong_on_the_disk_when_the_memory_has_gone_on_is_had_in_its_place(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    limits = Limits(spool=4 * 64 * 1024, pending=CHUNK, proof_seconds=0.0)
    site = await make_site(limits=limits, provers=PayloadProvers())
    source.flips[OPERATIONS[1][0]] = 1
    gate, judging = source.gate(OPERATIONS[9][0]), site.store.hold("record")
    reading = asyncio.create_task(site.read(source))
    await gate.reached.wait()
    await judging.reached.wait()
    site.store.failures["write"] = OSError(28, "No space left on device")
    gate.open()
    await site.filled(OPERATIONS[9][0] + limits.spool - 2 * CHUNK)
    judging.open()
    assert await reading == PAYLOAD


async def test_what_is_no_payload_is_held_back_as_ever(site: Site) -> None:
    source = random_source(SIZE)
    gate = source.gate(SIZE - 1)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        got = await until(reader, SIZE - HOLD_BACK)
        await gate.reached.wait()
        gate.open()
        assert got + await rest(reader) == source.data
    assert source.opens == [Open(0, SIZE, None)]
