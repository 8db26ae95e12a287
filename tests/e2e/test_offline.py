"""What was learnt outlives the mirror that learnt it, however it ended and whatever became of the line."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from omaha_mirror.catalog.catalog_file import load
from tests.e2e.site import FLOORS, OLD, STEPS, Box, before, body
from tests.support.mirror import MirrorProcess
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Upstream


async def test_a_killed_mirror_offers_and_serves_what_was_known_with_the_line_down(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    config = before(nebraska)
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        box = Box(process)
        for _ in STEPS:
            await box.update()
        await process.kill()
    await upstream.refuse()
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        box = Box(process, number=2)
        assert [await box.update() for _ in STEPS] == [*STEPS]
        await box.nothing()
    await upstream.listen()


@pytest.mark.parametrize(
    "moment", [1, *(pytest.param(moment, marks=pytest.mark.long) for moment in (2, 5, 9, 13))]
)
async def test_a_mirror_killed_while_it_learns_loses_no_more_than_what_it_learnt_last(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, moment: int
) -> None:
    """After so many requests to upstream: before the first answer, in the walk, in the look-ups after it."""
    config = before(nebraska)
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        asking = asyncio.create_task(Box(process).check())
        await upstream.until(lambda: len(upstream.log) >= moment)
        await process.kill()
        with suppress(AssertionError):
            await asking
    state = load(tmp_path / "state" / "catalog.json")
    for release in (*(kept.release for kept in state.releases), *state.upstream):
        assert release.payload.size == len(body(release.version))
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        offer = await Box(process).offer()
        assert offer.version == FLOORS[0]
        assert await Box(process).download(offer) == body(FLOORS[0])
    assert not [*(tmp_path / "state").glob("*.damaged")]


async def test_a_start_with_the_line_down_and_nothing_known_is_no_error_at_a_machine(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    await upstream.refuse()
    async with MirrorProcess(tmp_path, upstream.origin, **before(nebraska)) as process:
        await Box(process).nothing()
        await process.logged("upstream does not answer")
    await upstream.listen()


async def test_a_restarted_mirror_asks_nothing_before_a_machine_does(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    config = before(nebraska)
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        await Box(process).offer()
        assert await process.terminate() == 0
    asked = len(upstream.log)
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        await process.round_trips()
        assert len(upstream.log) == asked
        gate = upstream.hold(PATH)
        assert (await Box(process, version=OLD).offer()).version == FLOORS[0]
        await gate.reached()
        gate.open()
