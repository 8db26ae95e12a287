"""A request that no machine has sent: what it would be told, and what upstream says to it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.omaha import FLATCAR_APP_ID, Client, Machine, serialise_request
from tests.e2e.site import FLOORS, OLD, TARGET, Box, body, following, three_steps
from tests.support.mirror import PAYLOAD
from tests.support.nebraska import Group, Nebraska
from tests.support.upstream import Status, Upstream
from tests.web.asking import Api, api_of

ID = "ab" * 16
FIRST = FLOORS[0]


@pytest.fixture
async def api(tmp_path: Path, nebraska: Nebraska) -> AsyncIterator[Api]:
    """Before a mirror that follows on all tracks but two."""
    tracks = {"beta": "relay", "lts": "hold"}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror, api_of(mirror) as api:
        yield api


def group(nebraska: Nebraska, track: str = "stable") -> Group:
    return nebraska.groups[FLATCAR_APP_ID, track, "amd64-usr"]


def machine(version: str, track: str = "stable") -> Client:
    return Client(Machine(version=version, machineid=ID, track=track))


def check(version: str = OLD, track: str = "stable") -> str:
    return serialise_request(machine(version, track).check()).decode()


async def explained(api: Api, request: str, *, upstream: bool = False) -> Any:
    reply = await api.post("explain", {"request": request, "upstream": upstream})
    [app] = reply["apps"]
    return app


async def test_a_replay_is_answered_by_the_live_policy_and_leaves_no_trace(
    api: Api, nebraska: Nebraska
) -> None:
    assert (await Box(api.mirror).offer()).version == FIRST
    await api.when("machines", lambda reply: reply["total"] == 1)
    asked = len(nebraska.requests)
    reply = await explained(api, check())
    assert (reply["reason"], reply["offered"], reply["upstream"]) == ("offered", FIRST, None)
    assert reply["explanation"] == [
        f"It asks for an update as {OLD} for amd64-usr on track stable, which follows upstream.",
        f"It would be offered {FIRST}.",
    ]
    assert (await explained(api, check(TARGET)))["reason"] == "up-to-date"
    await Box(api.mirror, number=2).offer()
    await api.when("machines", lambda reply: reply["total"] == 2)
    assert (await api.get(f"machines?search={ID}"))["total"] == 0
    assert len(nebraska.requests) == asked


async def test_a_replay_on_a_track_that_nobody_follows_yet_makes_nobody_follow_it(
    api: Api, nebraska: Nebraska
) -> None:
    reply = await explained(api, check(track="unheard-of"))
    assert reply["reason"] == "warming"
    assert "A real check makes the mirror look it up" in reply["explanation"][-1]
    assert await api.mirror.service.warm_up.channels() == []
    assert nebraska.requests == []


@pytest.mark.parametrize("too", [False, True])
async def test_nobody_asks_upstream_in_the_name_of_a_relayed_machine(
    api: Api, nebraska: Nebraska, too: bool
) -> None:
    three_steps(nebraska, "beta")
    reply = await explained(api, check(track="beta"), upstream=too)
    assert (reply["reason"], reply["offered"], reply["upstream"]) == (None, None, None)
    assert "so it is not asked" in reply["explanation"][1]
    bad = await explained(api, check(version="what", track="beta"), upstream=too)
    assert bad["reason"] == "version-unreadable"
    assert nebraska.requests == []
    assert api.mirror.service.omaha_upstream.queues()["events_upstream"].queued == 0


async def test_upstream_is_asked_in_no_machines_name_and_no_grant_stays_open(
    api: Api, nebraska: Nebraska
) -> None:
    await Box(api.mirror).offer()
    followed = {*nebraska.instances}
    asked = len(nebraska.requests)
    for _ in range(2):
        reply = await explained(api, check(), upstream=True)
        assert reply["upstream"] == {
            "offered": FIRST,
            "leads_on": [FLOORS[1], TARGET],
            "detail": "",
            "trouble": "",
        }
        assert reply["explanation"][-1] == f"Upstream offers {FIRST} as well."
        assert nebraska.open_grants() == []
    # It is one more instance, which counts in no limit and is neither the machine nor its pseudonym.
    [own] = {*nebraska.instances} - followed
    assert nebraska.instances[own].counts is False
    sent = "".join(serialise_request(r).decode() for r in nebraska.requests[asked:])
    assert ID not in sent.replace("-", "")
    for request in nebraska.requests[asked:]:
        assert (request.apps[0].events, request.apps[0].ping) == ((), None)


async def test_opinions_do_not_disturb_what_the_mirror_learns(api: Api, nebraska: Nebraska) -> None:
    await Box(api.mirror).offer()
    await explained(api, check(), upstream=True)
    nebraska.publish("3900.0.0", {PAYLOAD: body("3900.0.0")})
    group(nebraska).version = "3900.0.0"
    reply = await explained(api, check(TARGET), upstream=True)
    assert (reply["offered"], reply["upstream"]["offered"]) == (None, "3900.0.0")
    assert reply["explanation"][-1].startswith(
        "Upstream offers 3900.0.0; the mirror differs, as the machine has this version"
    )
    [channel] = await api.mirror.service.warm_up.sync("stable")
    assert [step.version for step in channel.steps] == [*FLOORS, "3900.0.0"]
    assert nebraska.open_grants() == []


async def test_a_pin_is_compared_with_upstream_and_an_override_is_told(
    api: Api, nebraska: Nebraska
) -> None:
    await Box(api.mirror).offer()
    await api.post("tracks/stable/pin", {"version": FLOORS[0]})
    reply = await explained(api, check(FIRST), upstream=True)
    assert (reply["offered"], reply["upstream"]["offered"]) == (None, FLOORS[1])
    assert any("is pinned to 3200.0.0 since" in line for line in reply["explanation"])
    group(nebraska).updates_enabled = False
    reply = await explained(api, check(FIRST), upstream=True)
    assert reply["upstream"]["offered"] is None
    assert reply["explanation"][-1].startswith("Upstream offers nothing either: upstream answered")


async def test_a_held_track_is_not_compared(api: Api, nebraska: Nebraska) -> None:
    reply = await explained(api, check(track="lts"), upstream=True)
    assert (reply["reason"], reply["upstream"]) == ("held", None)
    assert "only about tracks that follow it" in reply["explanation"][-1]
    assert nebraska.requests == []


async def test_an_upstream_that_cannot_be_asked_is_said(
    api: Api, nebraska: Nebraska, upstream: Upstream
) -> None:
    await Box(api.mirror).offer()
    upstream.fault("/v1/update/", Status(502))
    reply = await explained(api, check(), upstream=True)
    assert "502" in reply["upstream"]["trouble"]
    assert reply["explanation"][-1].startswith("Upstream could not be asked: ")
    assert reply["offered"] == FIRST


PING = serialise_request(machine(OLD).ping()).decode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "request"),
        ({"request": 7}, "request"),
        ({"request": "<x/>"}, "cannot be read"),
        ({"request": "\ud800"}, "cannot be read"),
        ({"request": PING}, "no updatecheck"),
        ({"request": "<x/>", "upstream": "yes"}, "upstream"),
        ({"request": "<x/>", "ask": True}, "no ask"),
    ],
)
async def test_what_is_no_check_is_refused_with_words(api: Api, body: Any, words: str) -> None:
    assert words in await api.refused("POST", "explain", 400, body)


async def test_every_application_of_a_request_is_explained(api: Api) -> None:
    request = machine(OLD).check()
    [app] = request.apps
    other = replace(app, appid="{00000000-0000-4000-8000-000000000000}")
    whole = serialise_request(replace(request, apps=(app, other))).decode()
    reply = await api.post("explain", {"request": whole, "upstream": True})
    assert [a["reason"] for a in reply["apps"]] == ["warming", "unknown-app"]
    assert reply["apps"][1]["upstream"] is None
