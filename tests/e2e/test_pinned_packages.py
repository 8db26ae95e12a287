"""A pin has the packages of upstream's manifest from the start, and where that is not told, those that are known by name."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.omaha import Offer
from tests.e2e.site import Box, body, following
from tests.support.mirror import FOLDER, PAYLOAD, VERSION
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

NEXT = "3975.2.0"
PODMAN, PYTHON = "flatcar-podman.gz", "flatcar-python.gz"


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    nebraska = Nebraska(upstream)
    for version in (VERSION, NEXT):
        files = {name: body(f"{version} {name}") for name in (PAYLOAD, PODMAN, PYTHON)}
        nebraska.publish(version, files)
    nebraska.group("stable", VERSION)
    return nebraska


def names(offer: Offer) -> list[str]:
    return [package.name for package in offer.packages]


@pytest.mark.parametrize("track", ["stable", "prod"])
async def test_a_pin_from_the_start_has_the_packages_of_the_manifest(
    tmp_path: Path, nebraska: Nebraska, track: str
) -> None:
    async with following(tmp_path, nebraska, tracks={track: VERSION}) as mirror:
        boxes = [Box(mirror, number=n, track=track) for n in range(1, 20)]
        offers = await asyncio.gather(*(box.offer() for box in boxes))
        assert {tuple(names(offer)) for offer in offers} == {(PAYLOAD, PODMAN, PYTHON)}
        for package in offers[0].packages:
            await boxes[0].download(offers[0], package)
        asked = len(nebraska.requests)
        for box in boxes:
            await box.offer()
        assert len(nebraska.requests) == asked
        assert nebraska.open_grants() == []


async def test_a_version_that_no_track_leads_to_has_what_is_known_by_name(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    nebraska.group("stable", NEXT)
    nebraska.upstream.remove(f"{FOLDER}/{PYTHON}")
    async with following(tmp_path, nebraska, tracks={"stable": VERSION}) as mirror:
        assert names(await Box(mirror).offer()) == [PAYLOAD, PODMAN]


async def test_a_pin_waits_for_no_omaha_server_for_long(
    tmp_path: Path, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.catalog.pinned_questions.ASK_FIRST", 0.1)
    gate = nebraska.upstream.hold(PATH)
    async with following(tmp_path, nebraska, tracks={"stable": VERSION}) as mirror:
        assert names(await Box(mirror).offer()) == [PAYLOAD]
        gate.open()
        every = [PAYLOAD, PODMAN, PYTHON]
        async with asyncio.timeout(PATIENCE):
            while names(await Box(mirror).offer()) != every:
                await mirror.round_trips(1)
