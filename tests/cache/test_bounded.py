"""A range that ends before the blob does is completed by its client: no byte of it leaves that nothing speaks for."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from omaha_mirror.cache import DiskStore, Limits, Verifier, blob_directory
from omaha_mirror.cache.blob import Head
from omaha_mirror.cache.errors import CoolingDown, GenerationEnded, NoSpaceNow, NotInTime
from omaha_mirror.cache.events import FillEnded, FillStarted, Outcome, Repaired
from omaha_mirror.cache.scrub import VerifyOutcome
from omaha_mirror.packages.payload_prover import PayloadProvers
from tests.cache.conftest import MakeSite
from tests.cache.payloads import operations, pieces, signed
from tests.cache.site import NO_WAIT_FOR_PROOF, Site, rest
from tests.cache.source import CHUNK, ScriptedSource, random_source

PAYLOAD = signed(pieces(40, 20_000))
SIZE = len(PAYLOAD)
OPERATIONS = operations(PAYLOAD)
HEAD, TAIL = OPERATIONS[0][0], OPERATIONS[-1][1]
FORGED = signed(pieces(40, 20_000, b"forged"))
"""Right in itself, and of the same size."""
UNSPOKEN = [
    (0, 1),
    (0, HEAD),
    (HEAD - 1, HEAD + 9),
    (5, OPERATIONS[3][1]),
    (TAIL, TAIL + 9),
    (OPERATIONS[-1][0], SIZE - 1),
    (3, SIZE - 1),
]
"""Ranges that touch header, manifest or signatures."""


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site(provers=PayloadProvers(), limits=NO_WAIT_FOR_PROOF)


@pytest.mark.parametrize("data", [PAYLOAD, os.urandom(SIZE)], ids=["payload", "no payload"])
async def test_before_the_proof_nothing_leaves_that_nothing_speaks_for(
    site: Site, data: bytes
) -> None:
    source = ScriptedSource(data)
    last = source.gate(SIZE - 1)
    reading = [asyncio.create_task(site.read(source, *span)) for span in UNSPOKEN]
    await last.reached.wait()
    await site.filled(SIZE - 1)
    assert not any(task.done() for task in reading)
    last.open()
    assert await asyncio.gather(*reading) == [data[start:stop] for start, stop in UNSPOKEN]
    assert source.sent == SIZE


@pytest.mark.parametrize("span", UNSPOKEN)
async def test_no_range_is_completed_with_bytes_of_a_forged_payload(
    site: Site, source: ScriptedSource, span: tuple[int, int]
) -> None:
    expected, source.data = source.expected, FORGED
    assert len(FORGED) == SIZE
    last = source.gate(SIZE - 1)
    with site.cache.read(expected, source, *span) as reader:
        getting = asyncio.create_task(rest(reader))
        await last.reached.wait()
        source.replace(PAYLOAD)
        last.open()
        assert await getting == PAYLOAD[slice(*span)]
    await site.event(FillEnded, 2)
    assert [event.outcome for event in site.all(FillEnded)] == [
        Outcome.WRONG,
        Outcome.PROVEN,
    ]


@pytest.mark.parametrize("span", UNSPOKEN)
async def test_it_waits_as_long_as_a_client_can_though_others_get_bytes(
    make_site: MakeSite, source: ScriptedSource, span: tuple[int, int]
) -> None:
    site = await make_site(provers=PayloadProvers(), limits=Limits(patience=0.1))
    gate = source.gate(SIZE - 1)
    source.pause_seconds = 0.01
    with site.cache.read(source.expected, source, *span) as reader:
        with pytest.raises(NotInTime, match="was not proven in 0 s"):
            await rest(reader)
        assert reader.offset == reader.start
    gate.open()


async def test_the_fill_goes_on_to_the_proof_although_nobody_reads_any_more(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(provers=PayloadProvers(), when_abandoned="stop")
    gate = source.gate(HEAD + 1)
    with site.cache.read(source.expected, source, 0, HEAD) as reader:
        getting = asyncio.create_task(rest(reader))
        await gate.reached.wait()
        await site.filled(HEAD + 1)
        getting.cancel()
        await asyncio.wait([getting])
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]


# The head is known


async def known(make_site: MakeSite, source: ScriptedSource, **options: Any) -> Site:
    """A site that proved the payload once and does not have it any more."""
    site = await make_site(provers=PayloadProvers(), **options)
    await site.cache.fetch(source.expected, source)
    await site.cache.remove(source.expected.key)
    site.events.clear()
    source.sent = 0
    return site


@pytest.mark.parametrize("restart", [False, True])
async def test_once_proven_the_head_leaves_before_the_rest_is_there(
    make_site: MakeSite, source: ScriptedSource, restart: bool
) -> None:
    site = await known(make_site, source)
    if restart:
        await site.cache.close()
        site = await make_site(provers=PayloadProvers())
    gate = source.gate(OPERATIONS[5][1])
    for span in (0, 1), (0, HEAD), (3, OPERATIONS[4][0] + 1):
        assert await site.read(source, *span) == PAYLOAD[slice(*span)]
    assert not site.all(FillEnded)
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN
    assert source.sent == SIZE


async def test_signatures_wait_for_the_proof_all_the_same(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await known(make_site, source)
    last = source.gate(SIZE - 1)
    reading = asyncio.create_task(site.read(source, TAIL - 1, SIZE - 1))
    await last.reached.wait()
    await site.filled(SIZE - 1)
    assert not reading.done()
    last.open()
    assert await reading == PAYLOAD[TAIL - 1 : SIZE - 1]


@pytest.mark.parametrize("at", [0, 12, HEAD - 1])
async def test_a_wrong_head_is_known_at_once_and_fetched_alone(
    make_site: MakeSite, source: ScriptedSource, at: int
) -> None:
    site = await known(make_site, source)
    source.flips[at] = 1
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]
    await site.event(FillEnded)
    [mended] = site.all(Repaired)
    assert (mended.start, mended.stop, mended.leaked) == (0, HEAD, False)
    assert source.sent == SIZE + HEAD


async def test_nothing_of_another_payload_leaves_whose_head_is_known(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await known(make_site, source)
    expected, source.data = source.expected, FORGED
    last = source.gate(SIZE - 1)
    with site.cache.read(expected, source, 0, HEAD) as reader:
        getting = asyncio.create_task(rest(reader))
        await last.reached.wait()
        source.replace(PAYLOAD)
        last.open()
        assert await getting == PAYLOAD[:HEAD]


async def test_no_operation_of_another_payload_completes_a_range_where_the_head_is_known(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await known(make_site, source, limits=NO_WAIT_FOR_PROOF)
    expected, source.data = source.expected, FORGED
    with site.cache.read(expected, source, *OPERATIONS[4]) as reader:
        with pytest.raises(CoolingDown):
            await rest(reader)
        assert reader.offset == reader.start


@pytest.mark.parametrize(
    "note", [b"", b"{}", b'{"size": 9, "sha256": "%s"}' % (b"0" * 64), b'{"size": -1}', bytes(9999)]
)
async def test_a_note_that_is_wrong_or_damaged_costs_the_wait_and_nothing_else(
    make_site: MakeSite, source: ScriptedSource, note: bytes
) -> None:
    site = await known(make_site, source)
    await site.cache.close()
    [path] = (site.directory / "heads").iterdir()
    path.write_bytes(note)
    site = await make_site(provers=PayloadProvers())
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]
    await site.event(FillEnded)
    assert json.loads(path.read_bytes())["size"] == HEAD


async def test_a_folder_of_heads_that_cannot_be_read_stops_no_start(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await known(make_site, source)
    await site.cache.close()
    [path] = (site.directory / "heads").iterdir()
    path.unlink()
    path.mkdir()
    site = await make_site(provers=PayloadProvers())
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]
    await site.event(FillEnded)
    assert path.is_file()


async def test_heads_are_kept_of_what_is_taken_in_and_of_what_is_verified(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, SIZE, 7777):
            yield PAYLOAD[at : at + 7777]

    site = await make_site(provers=PayloadProvers())
    async with site.cache.ingest() as ingest:
        await ingest.add(source.expected, chunks())
        await ingest.commit()
    [path] = (site.directory / "heads").iterdir()
    written = path.read_bytes()
    await site.cache.close()
    path.unlink()
    site = await make_site(provers=PayloadProvers())
    assert (await verdict(site, source)) is VerifyOutcome.RIGHT
    assert path.read_bytes() == written


async def verdict(site: Site, source: ScriptedSource) -> VerifyOutcome:
    found = await Verifier(site.cache, site.store).verify(source.expected.key)
    assert found is not None
    return found.outcome


async def test_only_so_many_heads_are_kept(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_directory, "HEADS", 3)
    for i in range(5):
        store.keep_head(f"{i:064}", Head(i + 1, bytes(32)))
        os.utime(store.known / f"{i:064}", (i, i))
    assert store.heads() == {f"{i:064}": Head(i + 1, bytes(32)) for i in (2, 3, 4)}


async def test_what_is_no_payload_has_no_head(make_site: MakeSite) -> None:
    source = random_source(SIZE)
    site = await known(make_site, source)
    assert list((site.directory / "heads").iterdir()) == []


# In passing


async def test_who_must_wait_for_the_proof_does_not_hold_up_what_passes(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    """The proof comes when its bytes have passed; it gets them in a second round, the head of which is known."""
    limits = Limits(spool=4 * 64 * 1024, pending=CHUNK, lag_seconds=60.0)
    site = await make_site(max_size=SIZE - 1, limits=limits, provers=PayloadProvers())
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]
    assert len(site.all(FillStarted)) == 2
    assert await site.read(source, 0, HEAD) == PAYLOAD[:HEAD]


async def test_a_part_of_what_is_no_payload_cannot_be_had_where_nothing_is_kept(
    make_site: MakeSite,
) -> None:
    source = random_source(SIZE)
    limits = Limits(spool=4 * 64 * 1024, pending=CHUNK)
    site = await make_site(max_size=SIZE - 1, limits=limits, provers=PayloadProvers())
    with pytest.raises(NoSpaceNow, match="no room to keep it"):
        await site.read(source, 0, HEAD)
    assert len(site.all(FillStarted)) == 1
    assert await site.read(source) == source.data


# What is not held up


async def test_a_range_of_operations_only_does_not_oblige_to_the_proof(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(
        provers=PayloadProvers(), when_abandoned="stop", limits=NO_WAIT_FOR_PROOF
    )
    gate = source.gate(OPERATIONS[3][1])
    assert await site.read(source, *OPERATIONS[2]) == PAYLOAD[slice(*OPERATIONS[2])]
    assert (await site.event(FillEnded)).outcome is Outcome.STOPPED
    gate.open()


async def test_a_client_that_hashes_all_of_it_is_not_held_up(
    site: Site, source: ScriptedSource
) -> None:
    """A range up to the end cannot be completed before the proof."""
    gate = source.gate(OPERATIONS[3][1])
    expected, source.data = source.expected, FORGED
    with site.cache.read(expected, source, 5, SIZE) as reader:
        getting = asyncio.create_task(rest(reader))
        await gate.reached.wait()
        while reader.offset < OPERATIONS[3][0]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        gate.open()
        with pytest.raises(GenerationEnded):
            await getting
