"""A delta that upstream gives to a machine reaches that machine, and no other, nor the same one with another version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import (
    AppResponse,
    Response,
    UpdateCheck,
    UpdateStatus,
    Url,
    parse_request,
    serialise_response,
)
from tests.e2e.site import OLD, Box, body, following
from tests.support.mirror import DATA, FOLDER, PAYLOAD, VERSION
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Upstream

DELTA = (DATA / "payloads" / "delta" / "update.gz").read_bytes()
FULL = body(VERSION)
RELAY: dict[str, Any] = {"tracks": {"stable": "relay", "fleet": "follow"}}
OTHER = "3100.0.0"


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    """An upstream that gives a delta to machines with one version, and the full payload to all others."""
    nebraska = Nebraska(upstream)
    full = nebraska.publish(VERSION, {PAYLOAD: FULL}).manifest
    folder = f"{FOLDER}/delta/"
    upstream.put(folder + PAYLOAD, DELTA)
    made = nebraska.publish(VERSION, {PAYLOAD: DELTA}).manifest
    upstream.put(f"{FOLDER}/{PAYLOAD}", FULL)
    delta = replace(made, actions=(replace(made.actions[0], is_delta_payload=True),))

    def answer(request: Any) -> bytes:
        [app] = parse_request(request.body).apps
        at, manifest = (folder, delta) if app.version == OLD else (f"{FOLDER}/", full)
        url = Url(codebase=upstream.url(at))
        check = UpdateCheck(status=UpdateStatus.OK, urls=(url,), manifests=(manifest,))
        if app.version == VERSION:
            check = UpdateCheck(status=UpdateStatus.NO_UPDATE)
        told = AppResponse(appid=app.appid, status="ok", update_check=check)
        return serialise_response(Response(apps=(told,)))

    upstream.answer(PATH, answer)
    return nebraska


async def test_each_machine_gets_what_upstream_gave_to_it(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        for number in (1, 3):
            box, other = Box(mirror, number=number), Box(mirror, OTHER, number=number + 1)
            assert await box.download(await box.offer()) == DELTA
            assert await other.download(await other.offer()) == FULL
        assert (await mirror.get(f"{FOLDER}/{PAYLOAD}")).body == FULL


async def test_in_an_outage_a_delta_is_remembered_for_its_machine_and_version_alone(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        assert await box.download(offer) == DELTA
        await Box(mirror, OTHER, number=2).offer()
    nebraska.upstream.answer(PATH, lambda _: b"<html>")
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        box.site = mirror
        assert await box.offer() == offer
        assert await box.download(offer) == DELTA
        await Box(mirror, OTHER).nothing()
        await Box(mirror, number=3).nothing()
        full = await Box(mirror, OLD, number=2).offer()
        assert await box.download(full) == FULL


async def test_what_upstream_says_later_takes_the_place_of_a_delta(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, **RELAY) as mirror:
        await Box(mirror).offer()
        await Box(mirror, OTHER).offer()
        nebraska.upstream.answer(PATH, lambda _: b"<html>")
        full = await Box(mirror).offer()
        assert await Box(mirror).download(full) == FULL


@pytest.mark.parametrize("rule", ["follow", VERSION])
async def test_who_follows_or_is_pinned_is_offered_no_delta(
    tmp_path: Path, nebraska: Nebraska, rule: str
) -> None:
    tracks = {"stable": "relay", "fleet": rule}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        await Box(mirror).offer()
        box = Box(mirror, number=2, track="fleet")
        assert await box.download(await box.offer()) == FULL


@pytest.mark.parametrize(("key", "taken"), [("update-payload-key", True), ("wrong-key", False)])
async def test_with_keys_a_delta_must_be_signed(
    tmp_path: Path, nebraska: Nebraska, key: str, taken: bool
) -> None:
    keys = {"public_keys": [str(DATA / "payloads" / f"{key}.pub.pem")]}
    async with following(tmp_path, nebraska, **RELAY, upstream=keys) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        if taken:
            assert await box.download(offer) == DELTA
        else:
            [package] = offer.packages
            path = offer.url_of(package).partition(":8000")[2]
            assert (await mirror.get(path)).body != DELTA
            [app] = box.client.check().apps
            decision = await mirror.service.decisions.decide(box.client.check(), app)
            assert decision.reason is Reason.UNTRUSTED
