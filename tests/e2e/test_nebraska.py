"""Boards, applications, distributions and the rules of a track, each through a whole mirror."""

from dataclasses import replace
from pathlib import Path

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import FLATCAR_APP_ID, Offer, serialise_request
from tests.e2e.site import FLOORS, OLD, TARGET, Box, body, count, following, until
from tests.support.clock import SetClock
from tests.support.mirror import PAYLOAD, mirror_in_process
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Upstream

OTHER_APP = "11111111-2222-3333-4444-555555555555"
UNKNOWN_APP = "99999999-2222-3333-4444-555555555555"
ARM = "arm64-usr"
HOUR = 3600


# Who asks


async def test_both_boards_of_a_track_are_followed_each_for_itself(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    nebraska.publish(TARGET, {PAYLOAD: b"arm" * 1000}, board=ARM)
    nebraska.group("stable", TARGET, board=ARM)
    async with following(tmp_path, nebraska) as mirror:
        amd64, arm64 = Box(mirror), Box(mirror, number=2, board=ARM)
        assert await amd64.download(await amd64.offer()) == body(FLOORS[0])
        assert await arm64.download(await arm64.offer()) == b"arm" * 1000
        asked = {app.board for message in nebraska.requests for app in message.apps}
        assert asked == {"amd64-usr", ARM}


async def test_the_applications_of_one_request_are_answered_in_order_whatever_becomes_of_the_others(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    nebraska.group("stable", TARGET, app_id=OTHER_APP)
    changes = {"upstream": {"app_ids": [FLATCAR_APP_ID, OTHER_APP]}}
    async with following(tmp_path, nebraska, **changes) as mirror:
        check = Box(mirror).client.check()
        asked = [UNKNOWN_APP, OTHER_APP, FLATCAR_APP_ID, OTHER_APP]
        apps = [replace(check.apps[0], appid=f"{{{app_id}}}") for app_id in asked]
        apps[3] = replace(apps[3], version="version one")
        answer = await mirror.response(serialise_request(replace(check, apps=tuple(apps))))
        assert [app.app_id for app in answer.apps] == asked
        assert [app.status for app in answer.apps] == [
            "error-unknownApplication",
            *["ok"] * 3,
        ]
        versions = [
            app.update_check and app.update_check.manifest and app.update_check.manifest.version
            for app in answer.apps
        ]
        assert versions == [None, TARGET, FLOORS[0], None]
        assert {app.app_id for r in nebraska.requests for app in r.apps} == {*asked[1:3]}


async def test_coreos_is_followed_with_its_own_payload_name_and_without_sidecars(
    tmp_path: Path, upstream: Upstream
) -> None:
    nebraska = Nebraska(upstream)
    nebraska.publish("2135.6.0", {"update.gz": body("2135.6.0")})
    upstream.remove("/amd64-usr/2135.6.0/update.gz")
    upstream.put("/amd64-usr/2135.6.0/update.gz", body("2135.6.0"), sidecar=False)
    nebraska.group("stable", "2135.6.0")
    async with following(tmp_path, nebraska, upstream={"distribution": "coreos"}) as mirror:
        box = Box(mirror, version="1068.10.0")
        assert await box.update() == "2135.6.0"


async def test_a_pinned_coreos_release_is_fetched_first_and_offered_when_its_digest_is_known(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    path = "/amd64-usr/2135.6.0/update.gz"
    upstream.put(path, body("2135.6.0"), sidecar=False)
    gate = upstream.hold(path, at=10_000)
    pins = {"tracks": {"stable": "2135.6.0"}}
    async with mirror_in_process(
        tmp_path, upstream.origin, upstream={"distribution": "coreos"}, **pins
    ) as mirror:
        box = Box(mirror, version="1068.10.0")
        assert (await box.nothing()).poll_interval == 45 * 60
        await gate.reached()
        await box.nothing()
        gate.open()
        await mirror.until(lambda: bool(mirror.ended()))
        await mirror.service.catalog._lookups.quiet()
        offer = await box.offer()
        assert await box.download(offer) == body("2135.6.0")
        assert upstream.bytes_sent(path) == 40_000


# The rules of a track


async def test_a_delay_holds_a_release_back_and_asks_machines_to_come_in_time(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    tracks, clock = {"stable": {"mode": "follow", "delay": "48h"}}, SetClock()
    async with following(tmp_path, nebraska, clock=clock, tracks=tracks) as mirror:
        box = Box(mirror)
        assert (await box.nothing()).poll_interval == 4 * HOUR
        assert count(mirror, "checks_total", decision="noupdate", reason=Reason.DELAYED.value) == 1
        clock.later = 47 * HOUR
        poll = (await box.nothing()).poll_interval
        assert poll is not None
        assert HOUR - 60 < poll <= HOUR + 1
        clock.later = 48 * HOUR + 1
        assert (await box.offer()).version == FLOORS[0]


async def test_a_ramp_spreads_a_release_over_the_site(tmp_path: Path, nebraska: Nebraska) -> None:
    tracks, clock = {"stable": {"mode": "follow", "ramp": "24h"}}, SetClock()
    async with following(tmp_path, nebraska, clock=clock, tracks=tracks) as mirror:
        reached: list[set[int]] = []
        for hours in (0, 12, 12, 24):
            clock.later = hours * HOUR + 1
            told = [(n, await Box(mirror, number=n).check()) for n in range(40)]
            reached.append({n for n, answer in told if isinstance(answer, Offer)})
        none, half, same, everybody = reached
        assert none == set()
        assert 8 < len(half) < 32
        assert half == same
        assert everybody == {*range(40)}


async def test_nothing_above_max_version_is_offered(tmp_path: Path, nebraska: Nebraska) -> None:
    tracks = {"stable": {"mode": "follow", "max_version": "3500.0.0"}}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        box = Box(mirror)
        assert [await box.update(), await box.update()] == [*FLOORS]
        await box.nothing()
        reason = Reason.ABOVE_MAX.value
        assert count(mirror, "checks_total", decision="noupdate", reason=reason) == 1


async def test_upstreams_address_comes_second_where_it_is_wanted(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    for wanted in (False, True):
        changes = {"upstream": {"fallback_to_upstream": wanted}}
        async with following(tmp_path, nebraska, **changes) as mirror:
            first, *more = (await Box(mirror).offer()).codebases
            assert first.startswith("http://mirror.test:8000/packages/")
            assert more == [upstream.url(f"/amd64-usr/{FLOORS[0]}/")] * wanted


async def test_a_pin_takes_upstreams_manifest_and_its_floors_where_they_are_known(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    tracks = {"stable": "follow", "edge": TARGET}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        await Box(mirror).offer()
        pinned = Box(mirror, number=2, track="edge")
        assert [await pinned.update() for _ in range(3)] == [*FLOORS, TARGET]
        offered = await Box(mirror, number=3, version=FLOORS[1]).offer()
        assert await Box(mirror, number=4, version=FLOORS[1], track="edge").offer() == offered
        assert {app.track for r in nebraska.requests for app in r.apps} == {"stable"}


async def test_a_release_whose_bytes_changed_is_another_release_and_the_old_path_stays(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, version=FLOORS[1])
        old = await box.offer()
        assert await box.download(old) == body(TARGET)
        nebraska.publish(TARGET, {PAYLOAD: body("other")})
        await mirror.service.warm_up.sync()
        await until(mirror, lambda: len(mirror.service.catalog.current()) == 3)
        new = await until_other(box, old)
        assert await box.download(new) == body("other")
        assert await box.download(old) == body(TARGET)
        layout = f"/amd64-usr/{TARGET}/{PAYLOAD}"
        assert (await mirror.get(layout)).body == body("other")
        assert (await mirror.get(layout, Range="bytes=100-")).status == 416
        assert len(upstream.requests(PATH)) > 0


async def until_other(box: Box, old: Offer) -> Offer:
    """The offer after the look-up that is under way."""
    for _ in range(100):
        offer = await box.offer()
        if offer != old:
            return offer
    raise AssertionError("the old release is still offered")


async def test_the_same_machine_gets_the_same_answer_from_check_to_check(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, version=OLD)
        first = await box.offer()
        await mirror.service.warm_up.sync()
        assert await box.offer() == first
    async with following(tmp_path, nebraska) as mirror:
        assert await Box(mirror, version=OLD).offer() == first
