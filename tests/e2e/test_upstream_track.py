"""A track that has another name upstream is followed and relayed by that, and one that upstream has not is said."""

from pathlib import Path

import pytest

from omaha_mirror.catalog import Reason
from tests.e2e.site import STEPS, Box, body, channel, following
from tests.support.nebraska import Nebraska


@pytest.mark.parametrize("mode", ["follow", "relay"])
async def test_machines_are_led_by_the_track_that_upstream_knows(
    tmp_path: Path, nebraska: Nebraska, mode: str
) -> None:
    tracks = {"prod": {"mode": mode, "upstream_track": "stable"}}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        box = Box(mirror, track="prod")
        assert [await box.update() for _ in STEPS] == [*STEPS]
        await box.nothing()
        if mode == "relay":
            await box.report(box.client.failed(9))
            reports = len(box.requests)
            await nebraska.upstream.until(lambda: len(nebraska.requests) == reports)
        assert {app.track for request in nebraska.requests for app in request.apps} == {"stable"}
        [app] = Box(mirror, track="prod").client.check().apps
        rule = mirror.service.rules(app.track)
        opinion = await mirror.service.omaha_upstream.upstream_answer(app, rule)
        assert opinion.offered == STEPS[0]


async def test_two_tracks_that_are_one_upstream_are_asked_about_once(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    tracks = {"prod": {"mode": "follow", "upstream_track": "stable"}, "stable": "follow"}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        await Box(mirror, track="prod").offer()
        asked = len(nebraska.requests)
        await Box(mirror, number=2).offer()
        assert len(nebraska.requests) == asked
        assert (await channel(mirror)).steps[-1].version == STEPS[-1]


@pytest.mark.parametrize("mode", ["follow", "relay"])
async def test_a_track_that_upstream_has_not_is_said_with_the_key(
    tmp_path: Path, nebraska: Nebraska, mode: str
) -> None:
    async with following(tmp_path, nebraska, tracks={"prod": mode}) as mirror:
        box = Box(mirror, track="prod")
        [app] = box.client.check().apps
        decision = await mirror.service.decisions.decide(box.client.check(), app)
        assert decision.reason is Reason.WITHDRAWN
        assert "upstream_track" in decision.detail


async def test_so_it_is_where_upstream_says_no_update_for_every_name(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    nebraska.publish("0.0.0", {"update.gz": body("0")})
    nebraska.group("prod", "0.0.0")
    async with following(tmp_path, nebraska, tracks={"prod": "follow"}) as mirror:
        box = Box(mirror, track="prod")
        decision = await mirror.service.decisions.decide(
            box.client.check(), box.client.check().apps[0]
        )
        assert decision.reason is Reason.NO_UPDATE_UPSTREAM
        assert "upstream_track" in decision.detail


async def test_an_operator_syncs_a_track_by_its_name_here(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    tracks = {"prod": {"mode": "follow", "upstream_track": "stable"}}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        await Box(mirror, track="prod").offer()
        [status] = await mirror.service.warm_up.sync("prod")
        assert status.steps[-1].version == STEPS[-1]
