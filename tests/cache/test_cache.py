"""What the cache has, fetches and serves."""

import asyncio
import json

import pytest

from omaha_mirror.cache import Expected, Progress
from omaha_mirror.cache.errors import (
    CacheError,
    SourceGone,
)
from omaha_mirror.cache.events import FillEnded, Outcome
from omaha_mirror.cache.prover import HoldBack
from tests.cache.site import Site, have, rest, step
from tests.cache.source import CHUNK, ScriptedSource

SIZE = 1024 * 1024


HALF = SIZE // 2


async def test_fetch_gives_the_proof_once(site: Site, source: ScriptedSource) -> None:
    first, second = await asyncio.gather(
        *(site.cache.fetch(source.expected, source) for _ in range(2))
    )
    assert first is not None
    assert first == second
    assert first.sha256 == source.expected.sha256
    assert await site.cache.fetch(source.expected, source) is None
    assert source.sent == SIZE


async def test_fetch_says_why_it_failed(site: Site, source: ScriptedSource) -> None:
    source.refusals.append(SourceGone("no such file"))
    with pytest.raises(SourceGone, match="no such file"):
        await site.cache.fetch(source.expected, source)


async def test_a_cancelled_fetch_does_not_stop_the_fill(site: Site, source: ScriptedSource) -> None:
    gate = source.gate(CHUNK)
    fetching = asyncio.create_task(site.cache.fetch(source.expected, source))
    await gate.reached.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    gate.open()
    assert (await site.event(FillEnded)).outcome is Outcome.PROVEN


async def test_a_blob_of_unknown_digest_is_found_under_the_one_it_turned_out_to_have(
    site: Site, source: ScriptedSource
) -> None:
    unnamed = Expected(SIZE, source=source.name)
    proof = await site.cache.fetch(unnamed, source)
    assert proof is not None
    assert proof.proven_by == "size-and-validator"
    assert site.cache.holds(source.expected.key)
    assert not site.cache.holds(unnamed.key)
    assert await site.read(source) == source.data
    assert source.sent == SIZE


async def test_fills_under_way_are_listed(site: Site, source: ScriptedSource) -> None:
    gate = source.gate(HALF)
    with site.cache.read(source.expected, source, 0, SIZE) as reader:
        while reader.offset < HALF:
            await step(reader)
        (progress,) = site.cache.fills()
        key = source.expected.key
        assert progress == Progress(key, source.name, SIZE, HALF, progress.rate, 1, 0)
        assert progress.rate > 0
        gate.open()
    await site.event(FillEnded)
    assert site.cache.fills() == []


async def test_a_blob_removed_by_hand_is_fetched_again(site: Site, source: ScriptedSource) -> None:
    key = await have(site, source, 0.0)
    site.store.path(key).unlink()
    assert await site.read(source) == source.data
    assert source.sent == 2 * SIZE
    await site.event(FillEnded, 2)
    assert site.cache.holds(key)


async def test_a_blob_shorter_than_announced_does_not_end_politely(
    site: Site, source: ScriptedSource
) -> None:
    await site.cache.fetch(source.expected, source)
    too_long = Expected(SIZE + 1, source.expected.sha256)
    with (
        site.cache.read(too_long, source, 0, SIZE + 1) as reader,
        pytest.raises(CacheError, match=f"byte {SIZE} was asked for, the blob has {SIZE}"),
    ):
        await rest(reader)


async def test_proven_readers_share_one_open_file(site: Site, source: ScriptedSource) -> None:
    await site.cache.fetch(source.expected, source)
    with site.cache.read(source.expected, source, 0, SIZE) as first:
        with site.cache.read(source.expected, source, 0, SIZE) as second:
            assert await step(first) == await step(second)
            assert len(site.open_files()) == 1
        assert len(site.open_files()) == 1
    await site.cache.close()
    assert site.open_files() == []


async def test_what_was_just_read_stays_open_for_the_next_and_not_when_it_goes(
    site: Site, source: ScriptedSource
) -> None:
    await site.cache.fetch(source.expected, source)
    await site.read(source)
    for _ in range(3):  # turns of the loop
        await asyncio.sleep(0)
    [open_file] = site.open_files()
    await site.read(source)
    assert site.open_files() == [open_file]
    await site.cache.remove(source.expected.key)
    assert site.open_files() == []


async def test_what_lost_its_name_since_it_was_read_is_looked_for_anew(
    site: Site, source: ScriptedSource
) -> None:
    await site.cache.fetch(source.expected, source)
    await site.read(source)
    path = site.store.path(source.expected.key)
    path.unlink()
    assert await site.read(source) == source.data
    await site.cache.fetch(source.expected, source)
    assert path.exists()


async def test_the_sidecar_tells_where_a_blob_came_from(site: Site, source: ScriptedSource) -> None:
    await site.cache.fetch(source.expected, source)
    sidecar = site.store.path(source.expected.key).with_suffix(".json")
    assert json.loads(sidecar.read_text())["source"] == source.name


def test_at_least_the_last_byte_is_held_back() -> None:
    with pytest.raises(ValueError, match="at least the last byte"):
        HoldBack(10, 0)
