"""Where questions are decided: who is asked, how long a machine waits, and that no report is lost."""

from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import AppRequest, serialise_request
from omaha_mirror.policy import updatecheck
from omaha_mirror.policy.decide import Decision, decide
from omaha_mirror.policy.updatecheck import FIRST_ANSWER
from tests.catalog.scene import APP, BOARD
from tests.e2e.site import FLOORS, TARGET, Box, count, following
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import dial, request
from tests.support.upstream import Upstream


@pytest.mark.parametrize("mode", ["follow", "relay"])
async def test_without_an_omaha_server_a_track_must_be_pinned(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, mode: str
) -> None:
    changes = {"tracks": {"edge": TARGET}, "default_track": mode, "upstream": {"omaha_url": None}}
    async with following(tmp_path, nebraska, **changes) as mirror:
        await Box(mirror).nothing()
        reason = Reason.NO_UPDATE_UPSTREAM.value
        assert count(mirror, "checks_total", decision="noupdate", reason=reason) == 1
        assert (await Box(mirror, track="edge").offer()).version == TARGET
        assert upstream.requests(PATH) == []


async def test_what_following_takes_of_a_wait_is_not_there_for_the_look_up(
    tmp_path: Path, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    async with following(tmp_path, nebraska) as mirror:
        look_up = mirror.service.catalog.look_up

        async def noted(*args: Any) -> None:
            waits.append(args[5])
            await look_up(*args)

        monkeypatch.setattr(mirror.service.catalog, "look_up", noted)
        await Box(mirror).offer()
    assert waits
    assert all(wait < FIRST_ANSWER for wait in waits)


@pytest.mark.parametrize("rule", ["follow", TARGET])
async def test_a_check_decides_once_where_all_is_known(
    tmp_path: Path, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    decided = 0

    def counted(*args: Any, **kwargs: Any) -> Decision:
        nonlocal decided
        decided += 1
        return decide(*args, **kwargs)

    async with following(tmp_path, nebraska, tracks={"stable": rule}) as mirror:
        assert (await Box(mirror).offer()).version
        await Box(mirror, version=TARGET).nothing()
        monkeypatch.setattr(updatecheck, "decide", counted)
        await Box(mirror).offer()
        await Box(mirror, version=TARGET).nothing()
    assert decided == 2


@pytest.mark.parametrize("rule", ["follow", TARGET])
async def test_a_dry_run_is_no_use_of_a_release(
    tmp_path: Path, nebraska: Nebraska, rule: str
) -> None:
    def uses() -> list[float]:
        kept = mirror.service.catalog._known_releases.kept()
        return [item.last_used for item in kept]

    async with following(tmp_path, nebraska, tracks={"stable": rule}) as mirror:
        await Box(mirror, version=FLOORS[-1]).offer()
        before = uses()
        app = AppRequest(appid=APP, board=BOARD, track="stable", version=FLOORS[-1])
        told = mirror.service.decisions.dry_run(app)
        assert told is not None
        assert told.reason is Reason.OFFERED
        assert uses() == before
        await Box(mirror, version=TARGET).nothing()
        assert uses() != before


async def test_the_reports_of_a_machine_that_left_before_its_answer_go_upstream_all_the_same(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    gate = upstream.hold(PATH)
    async with following(tmp_path, nebraska, tracks={"stable": "relay"}) as mirror:
        box = Box(mirror)
        async with dial(mirror.address) as talk:
            body = serialise_request(box.client.check())
            await talk.send(request("POST", "/v1/update/", {}, body))
            await gate.reached()
            talk.close(reset=True)  # one that only ends its side still waits for its answer
        await mirror.until(lambda: mirror.active == 0)
        gate.open()
        await upstream.until(lambda: any(not r.apps[0].update_check for r in nebraska.requests))
        told = [r.apps[0] for r in nebraska.requests if r.apps[0].update_check is None]
        assert [[event.eventtype for event in app.events] for app in told] == [[3]]
        assert told[0].ping is not None
