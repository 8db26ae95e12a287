"""Relay: upstream sees each machine as it is, and says what it gets."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.config.rules import Pin
from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    AppResponse,
    EventRequest,
    NoUpdate,
    Request,
    Response,
    UpdateCheck,
    Url,
    parse_request,
    serialise_request,
    serialise_response,
)
from tests.e2e.site import FLOORS, OLD, STEPS, TARGET, Box, body, count, following
from tests.support.mirror import PAYLOAD, Mirror
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Status, Upstream

RELAY = {"tracks": {"stable": "relay"}}
KEY = FLATCAR_APP_ID, "stable", "amd64-usr"


def sent(request: Request) -> Request:
    return parse_request(serialise_request(request))


def checks_with(mirror: Mirror, reason: Reason) -> float:
    decision = "offered" if reason is Reason.OFFERED else "noupdate"
    return count(mirror, "checks_total", decision=decision, reason=reason.value)


async def test_upstream_gets_all_that_a_machine_says_of_itself_and_counts_it(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        box = Box(mirror, machinealias="rack-7", oem="azure", oemversion="1.2", bootid="{b}")
        assert [await box.update() for _ in STEPS] == [*STEPS]
        await box.nothing()
        await upstream.until(lambda: len(nebraska.requests) == len(box.requests))
        came = [sent(request) for request in box.requests]
        checks = [request for request in came if request.apps[0].update_check]
        assert [r for r in nebraska.requests if r.apps[0].update_check] == checks
        assert sorted(map(repr, nebraska.requests)) == sorted(map(repr, came))
        instance = nebraska.instances[FLATCAR_APP_ID, box.client.machine.machineid]
        assert (instance.version, instance.counts) == (TARGET, True)
        assert [*nebraska.instances.values()] == [instance]


async def test_a_relayed_offer_is_fetched_through_the_mirror(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        for number in (1, 2):
            box = Box(mirror, number=number)
            offer = await box.offer()
            [url] = offer.urls
            assert url.startswith("http://mirror.test:8000/packages/")
            assert await box.download(offer) == body(FLOORS[0])
        paths = [entry.path for entry in upstream.log if entry.method == "GET"]
        assert len([path for path in paths if path.endswith(".gz")]) == 1


async def test_each_machine_is_told_what_upstream_says_to_it_alone(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    nebraska.groups[KEY].max_updates = 1
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        first, second = Box(mirror, number=1), Box(mirror, number=2)
        await first.offer()
        await second.nothing()
        assert (checks_with(mirror, Reason.OFFERED), checks_with(mirror, Reason.BUSY)) == (1, 1)


async def test_policy_takes_an_offer_away_and_an_outage_does_not(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        first, second = Box(mirror, number=1), Box(mirror, number=2)
        offer = await first.offer()
        upstream.fault(PATH, Status(503))
        assert await first.offer() == offer
        await second.nothing()
        assert checks_with(mirror, Reason.UNREACHABLE) == 1
        upstream.heal(PATH)
    nebraska.groups[KEY].trouble = "error-updatesDisabled"
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        await first_of(mirror).nothing()
        assert checks_with(mirror, Reason.WITHDRAWN) == 1
        upstream.fault(PATH, Status(503))
        await first_of(mirror).nothing()
        assert checks_with(mirror, Reason.UNREACHABLE) == 1


def first_of(mirror: Mirror) -> Box:
    return Box(mirror, number=1)


async def test_what_a_machine_was_told_survives_a_restart_without_upstream(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        offer = await first_of(mirror).offer()
        assert await first_of(mirror).download(offer) == body(FLOORS[0])
    await upstream.refuse()
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        assert await first_of(mirror).offer() == offer
        assert await first_of(mirror).download(offer) == body(FLOORS[0])
    await upstream.listen()


@pytest.mark.parametrize(
    "who",
    [
        {"appid": "11111111-2222-3333-4444-555555555555"},
        {"board": "riscv-usr"},
        {"board": "../amd64-usr"},
    ],
)
async def test_upstream_is_not_asked_about_what_is_not_ours(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, who: dict[str, Any]
) -> None:
    async with following(tmp_path, nebraska, **RELAY, upstream={"forward_events": "all"}) as mirror:
        box = Box(mirror, **who)
        request = box.client.check()
        answer = await mirror.response(serialise_request(request))
        assert answer.apps[0].update_check is not None
        assert answer.apps[0].update_check.status == "noupdate"
        await box.report(box.client.failed(9))
        ours = Box(mirror, number=2)
        await ours.report(ours.client.failed(9))
        await upstream.until(lambda: bool(nebraska.requests))
        machines = {app.machineid for r in nebraska.requests for app in r.apps}
        assert machines == {ours.client.machine.machineid}


async def test_reports_of_a_machine_whose_version_cannot_be_read_still_go_upstream(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        box = Box(mirror, version="none")
        assert isinstance(await box.check(), NoUpdate)
        await upstream.until(lambda: bool(nebraska.requests))
        [app] = nebraska.requests[0].apps
        assert app == replace(sent(box.requests[0]).apps[0], update_check=None)


async def test_reports_wait_for_upstream_and_delay_nobody(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        gate = upstream.hold(PATH)
        await box.report(box.client.download_started())
        await gate.reached()
        await box.report(box.client.failed(37))
        assert await box.download(offer) == body(FLOORS[0])
        assert len(nebraska.requests) == 1
        gate.open()
        await upstream.until(lambda: len(nebraska.requests) == 3)
        kinds = [r.apps[0].events[0].eventtype for r in nebraska.requests[1:]]
        assert kinds == [13, 3]


async def test_a_relayed_check_tells_its_events_once_though_the_track_is_pinned_meanwhile(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, upstream={"forward_events": "all"}, **RELAY) as mirror:
        box = Box(mirror)
        await box.update()
        gate = upstream.hold(PATH)
        checking = asyncio.create_task(box.check())
        await gate.reached()
        await mirror.service.overrides.put("stable", Pin(TARGET))
        gate.open()
        await checking
        await box.report(box.client.failed(37))

        def came() -> list[EventRequest]:
            return [event for request in nebraska.requests for event in request.apps[0].events]

        await upstream.until(lambda: any(event.eventresult == 0 for event in came()))
        assert len([event for event in came() if event.previousversion == OLD]) == 1


async def test_several_applications_of_one_request_go_up_and_are_answered_in_order(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        one, other = (Box(mirror, number=n).client.check() for n in (1, 2))
        unknown = replace(one.apps[0], appid="{11111111-2222-3333-4444-555555555555}")
        known = replace(other.apps[0], version=OLD)
        answer = await mirror.response(
            serialise_request(replace(one, apps=(unknown, one.apps[0], known)))
        )
        assert [app.update_check and app.update_check.status for app in answer.apps] == [
            "noupdate",
            "ok",
            "ok",
        ]
        assert [len(request.apps) for request in nebraska.requests] == [1, 1]


async def test_each_machine_gets_the_bytes_that_upstream_names_to_it(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    """Also where it names others to the next machine, of the same version: those may not fit it."""
    ours = {OLD: body("one"), "3100.0.0": body("other")}
    folders = {}
    for version, payload in ours.items():
        folder = f"/{version}/{TARGET}/"
        upstream.put(folder + PAYLOAD, payload)
        folders[version] = folder, nebraska.publish(TARGET, {PAYLOAD: payload}).manifest

    def answer(request: Any) -> bytes:
        [app] = parse_request(request.body).apps
        folder, manifest = folders[app.version]
        url = Url(codebase=upstream.url(folder))
        check = UpdateCheck(status="ok", urls=(url,), manifests=(manifest,))
        told = AppResponse(appid=app.appid, status="ok", update_check=check)
        return serialise_response(Response(apps=(told,)))

    upstream.answer(PATH, answer)
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        for number in (1, 2):
            for version, payload in ours.items():
                box = Box(mirror, version, number)
                assert await box.download(await box.offer()) == payload


async def test_what_replaces_a_release_that_was_not_to_be_had_is_offered_at_once(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    path = f"/amd64-usr/{FLOORS[0]}/{PAYLOAD}"
    upstream.fault(path, Status(404))
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        await first_of(mirror).nothing()
        assert checks_with(mirror, Reason.NOT_RELEASED) == 1
        upstream.heal(path)
        nebraska.publish(FLOORS[0], {PAYLOAD: body("another")})
        box = first_of(mirror)
        assert await box.download(await box.offer()) == body("another")


async def test_packages_that_upstream_adds_to_a_release_are_in_the_next_offer(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        before = await Box(mirror, FLOORS[-1]).offer()
        nebraska.publish(TARGET, {PAYLOAD: body(TARGET), "oem-azure.gz": body("azure")})
        box = Box(mirror, FLOORS[-1], number=2, oem="azure")
        offer = await box.offer()
        assert offer.sha256 == before.sha256
        assert [package.name for package in offer.packages] == [PAYLOAD, "oem-azure.gz"]
        assert await box.download(offer, offer.packages[1]) == body("azure")
