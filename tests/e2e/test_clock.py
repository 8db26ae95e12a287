"""Clocks jump: what a delay, a window, the fleet's record and old releases make of it, across restarts."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.aio.clock import DAY
from tests.e2e.site import FLOORS, Box, channel, following, until
from tests.support.clock import SetClock
from tests.support.mirror import Mirror
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

YEAR, HOUR = 365 * DAY, 3600.0
DELAYED: dict[str, Any] = {"tracks": {"stable": {"mode": "follow", "delay": "48h"}}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """A clock that nothing confirms but upstream, whose Date is right by it."""
    clock = SetClock()
    monkeypatch.setattr(
        "tests.support.upstream.formatdate", lambda **_: formatdate(clock.right(), usegmt=True)
    )
    return clock


def again(clock: SetClock) -> SetClock:
    """The clock of the next process on the same machine."""
    return SetClock(clock.ahead, later=clock.later)


async def synced(mirror: Mirror) -> None:
    """Have upstream asked, as a poll does."""
    await mirror.service.warm_up.sync()


@pytest.mark.parametrize("ahead", [9 * YEAR, 10 * 60, -30 * YEAR, -HOUR])
async def test_a_delay_begins_when_the_clock_is_right(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock, ahead: float
) -> None:
    clock.ahead = ahead
    async with following(tmp_path, nebraska, clock=clock, **DELAYED) as mirror:
        await Box(mirror).nothing()
        clock.ahead = 0.0
        clock.later += 10 * HOUR
        await synced(mirror)
        await Box(mirror).nothing()
        clock.later += 47 * HOUR
        await Box(mirror).nothing()
        clock.later += 2 * HOUR
        assert (await Box(mirror).offer()).version == FLOORS[0]


@pytest.mark.parametrize("ahead", [9 * YEAR, -30 * YEAR])
async def test_so_it_does_over_restarts(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock, ahead: float
) -> None:
    """The wrong clock is put right while the mirror is down."""
    clock.ahead = ahead
    async with following(tmp_path, nebraska, clock=clock, **DELAYED) as mirror:
        await Box(mirror).nothing()
    clock.ahead = 0.0
    async with following(tmp_path, nebraska, clock=again(clock), **DELAYED) as mirror:
        await Box(mirror).nothing()
        await synced(mirror)
        await Box(mirror).nothing()
        seen = (await channel(mirror)).steps[0].seen
        assert seen == pytest.approx(clock.right(), abs=600)
    clock.later += 47 * HOUR
    async with following(tmp_path, nebraska, clock=again(clock), **DELAYED) as mirror:
        await synced(mirror)
        await Box(mirror).nothing()
    clock.later += 2 * HOUR
    async with following(tmp_path, nebraska, clock=again(clock), **DELAYED) as mirror:
        await synced(mirror)
        assert (await Box(mirror).offer()).version == FLOORS[0]


async def test_a_clock_that_jumps_ahead_at_a_restart_ends_no_delay(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock
) -> None:
    async with following(tmp_path, nebraska, clock=clock, **DELAYED) as mirror:
        await Box(mirror).nothing()
    clock.ahead = YEAR
    async with following(tmp_path, nebraska, clock=again(clock), **DELAYED) as mirror:
        await Box(mirror).nothing()
        await synced(mirror)
        told = await Box(mirror).nothing()
        assert told.poll_interval is not None


async def test_a_delay_that_was_over_stays_over_without_evidence(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock, upstream: Upstream
) -> None:
    """A restart in an outage: no Date, no kernel; what had been offered is offered."""
    async with following(tmp_path, nebraska, clock=clock, **DELAYED) as mirror:
        await Box(mirror).nothing()
        clock.later += 50 * HOUR
        assert (await Box(mirror).offer()).version == FLOORS[0]
    await upstream.refuse()
    later = again(clock)
    async with following(tmp_path, nebraska, clock=later, **DELAYED) as mirror:
        assert not later.sure
        assert (await Box(mirror).offer()).version == FLOORS[0]


async def test_without_a_delay_an_unsure_clock_keeps_nobody_waiting(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock
) -> None:
    clock.ahead = -30 * YEAR
    async with following(tmp_path, nebraska, clock=clock) as mirror:
        assert (await Box(mirror).offer()).version == FLOORS[0]
        clock.ahead = 9 * YEAR
        assert (await Box(mirror).offer()).version == FLOORS[0]


async def test_made_up_tracks_of_a_wrong_clock_make_room(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock
) -> None:
    clock.ahead = 9 * YEAR
    async with following(tmp_path, nebraska, clock=clock, tracks={"lts": "follow"}) as mirror:
        for number in range(64):
            await Box(mirror, track=f"made-up-{number}").nothing()
        clock.ahead = 0.0
        clock.later += 2 * HOUR
        assert (await Box(mirror).offer()).version == FLOORS[0]


@pytest.mark.parametrize("sure", [False, True])
async def test_a_start_a_year_ahead_purges_nothing(
    tmp_path: Path, nebraska: Nebraska, clock: SetClock, sure: bool
) -> None:
    """Where the time is known to be a year later, the record of then is gone: the test can fail."""
    async with following(tmp_path, nebraska, clock=clock) as mirror:
        await Box(mirror, number=7).offer()
    later = again(clock)
    later.ahead, later.synchronised = YEAR, sure
    async with following(tmp_path, nebraska, clock=later) as mirror:
        await Box(mirror, number=8).offer()
        register = mirror.service.fleet_feed
        await until(mirror, lambda: register.recorder.queued == 0)
        await swept(mirror)
        history = await register.reader.machine(f"{7:032x}")
        assert (history is None) is sure


async def swept(mirror: Mirror) -> None:
    """Wait until the recorder has kept up its tables once."""
    recorder = mirror.service.fleet_feed.recorder
    await until(mirror, lambda: recorder._kept_up != float("-inf"))
