"""A site without a line updates from a bundle, by the same steps as one with a line."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.bundle import ExportRequest
from omaha_mirror.cache.errors import NoSpace
from omaha_mirror.catalog.model import Release
from omaha_mirror.omaha import Offer
from omaha_mirror.policy.tracks import NothingToFetch
from tests.bundle.scene import (
    AZURE,
    BOARD,
    EXTRAS,
    PODMAN,
    bundle_of,
    exported,
    made,
    take_in,
    with_line,
    without_line,
)
from tests.e2e.site import FLOORS, OLD, STEPS, TARGET, Box, body, channel, following
from tests.support.mirror import PAYLOAD, Mirror
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

FLEET = 12


async def update_whole(box: Box) -> list[str]:
    """All updates that there are for a machine, with its OEM's package where one is named."""
    ran: list[str] = []
    while True:
        offer = await box.check()
        if not isinstance(offer, Offer):
            return ran
        own = f"oem-{box.client.machine.oem}.gz"
        for package in offer.packages:
            if package.name == own or package.name.startswith("flatcar-podman"):
                assert await box.download(offer, package) == EXTRAS[package.name]
        assert await box.download(offer) == body(offer.version)
        await box.report(box.client.update_applied())
        box.client.rebooted(offer.version)
        ran.append(offer.version)


async def test_a_fleet_updates_through_all_steps_without_any_line(
    tmp_path: Path, bundle: bytes, upstream: Upstream
) -> None:
    upstream.log.clear()
    async with without_line(tmp_path) as mirror:
        await Box(mirror).nothing()
        taken = await take_in(mirror, bundle)
        assert (taken.versions, taken.leads) == (STEPS, True)
        fleet = [Box(mirror, number=n, oem="azure" if n % 2 else "") for n in range(1, FLEET + 1)]
        async with asyncio.timeout(PATIENCE):
            ran = await asyncio.gather(*map(update_whole, fleet))
        assert ran == [[*STEPS]] * FLEET
    assert upstream.log == []


async def test_what_was_imported_is_offered_after_a_restart(tmp_path: Path, bundle: bytes) -> None:
    async with without_line(tmp_path) as mirror:
        await take_in(mirror, bundle)
    async with without_line(tmp_path) as mirror:
        assert await update_whole(Box(mirror, oem="azure")) == [*STEPS]


async def test_a_machine_whose_oem_package_did_not_come_waits_where_it_is_needed(
    tmp_path: Path, bundle: bytes
) -> None:
    async with without_line(tmp_path) as mirror:
        await take_in(mirror, bundle)
        box = Box(mirror, version=FLOORS[-1], oem="gce")
        await box.nothing()
        decision = mirror.service.catalog.known(box.client.machine.appid, BOARD, TARGET)
        assert decision is not None
        assert "was not in the bundle" in decision.lacking["oem-gce.gz"]
        assert await update_whole(Box(mirror, number=2, oem="unheard-of")) == [*STEPS]


async def test_all_system_extensions_come_along_and_oem_packages_on_demand(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with with_line(tmp_path, nebraska) as mirror:
        bundle = await made(mirror, ExportRequest("stable", BOARD))
        names = [member.file.name for member in bundle.members]
        assert names == [PAYLOAD, PAYLOAD, PAYLOAD, "flatcar-podman.gz"]
        await Box(mirror, version=FLOORS[-1], oem="gce").offer()
        bundle = await made(mirror, ExportRequest("stable", BOARD, oems=("azure",)))
        names = [member.file.name for member in bundle.members]
        assert names == [PAYLOAD, PAYLOAD, PAYLOAD, *EXTRAS]


async def test_a_version_is_exported_with_the_floors_below_it(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with with_line(tmp_path, nebraska) as mirror:
        await Box(mirror).offer()
        data = await exported(mirror, ExportRequest("stable", BOARD, FLOORS[1]))
    async with without_line(tmp_path) as mirror:
        assert (await take_in(mirror, data)).versions == FLOORS
        assert await update_whole(Box(mirror)) == [*FLOORS]


async def test_a_track_is_exported_no_farther_than_its_rule_lets_machines_go(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    rule = {"mode": "follow", "max_version": FLOORS[1]}
    async with following(tmp_path, nebraska, tracks={"stable": rule}) as mirror:
        found = await made(mirror, ExportRequest("stable", BOARD))
        assert tuple(entry.release.version for entry in found.entries) == FLOORS
        pinned = await made(mirror, ExportRequest("stable", BOARD, TARGET))
        assert tuple(entry.release.version for entry in pinned.entries) == STEPS


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (ExportRequest("stable", BOARD, "../../x"), "cannot read the version"),
        (ExportRequest("stable", BOARD, "9999.0.0"), "no such release"),
        (ExportRequest("held", BOARD), "name a version"),
        (ExportRequest("stable", BOARD, oems=("azzure",)), "OEM azzure"),
    ],
)
async def test_what_cannot_be_exported_is_told(
    tmp_path: Path, nebraska: Nebraska, wanted: ExportRequest, words: str
) -> None:
    (tmp_path / "with-line").mkdir()
    async with following(tmp_path / "with-line", nebraska, tracks={"held": "hold"}) as mirror:
        with pytest.raises(NothingToFetch, match=words):
            await mirror.service.exporter.bundle(wanted)


async def test_the_same_bundle_again_changes_nothing(tmp_path: Path, bundle: bytes) -> None:
    async with without_line(tmp_path) as mirror:
        first = await take_in(mirror, bundle)
        again = await take_in(mirror, bundle)
        assert first.added > 0
        assert (again.added, again.versions, again.leads) == (0, STEPS, True)
        seen = [step.seen for step in (await channel(mirror)).steps]
        assert seen == sorted(seen)
        assert await update_whole(Box(mirror)) == [*STEPS]


async def test_an_older_bundle_leads_no_track_back_and_can_be_pinned(
    tmp_path: Path, nebraska: Nebraska, bundle: bytes
) -> None:
    nebraska.groups.clear()
    nebraska.group("stable", "3300.0.0")
    nebraska.publish("3300.0.0", {PAYLOAD: body("3300.0.0")})
    async with with_line(tmp_path, nebraska) as mirror:
        older = await exported(mirror, ExportRequest("stable", BOARD, "3300.0.0"))
    async with without_line(tmp_path, tracks={"old": "3300.0.0"}) as mirror:
        await take_in(mirror, bundle)
        taken = await take_in(mirror, older)
        assert not taken.leads
        assert (await Box(mirror).offer()).version == FLOORS[0]
        offer = await Box(mirror, version=FLOORS[0], track="old").offer()
        assert (offer.version, await Box(mirror).download(offer)) == ("3300.0.0", body("3300.0.0"))


async def test_a_newer_bundle_leads_the_track_on(
    tmp_path: Path, nebraska: Nebraska, bundle: bytes
) -> None:
    nebraska.publish("3900.0.0", {PAYLOAD: body("3900.0.0")})
    nebraska.group("stable", "3900.0.0", floors=[TARGET])
    async with with_line(tmp_path, nebraska) as mirror:
        await mirror.service.warm_up.sync()
        newer = await exported(mirror, ExportRequest("stable", BOARD))
    async with without_line(tmp_path) as mirror:
        await take_in(mirror, bundle)
        assert (await take_in(mirror, newer)).versions == (TARGET, "3900.0.0")
        assert (await Box(mirror, version=TARGET).offer()).version == "3900.0.0"


async def test_where_upstream_leads_a_track_its_word_stands(
    tmp_path: Path, nebraska: Nebraska, bundle: bytes
) -> None:
    nebraska.group("stable", FLOORS[0])
    async with with_line(tmp_path, nebraska) as mirror:
        await mirror.service.warm_up.sync()
        assert (await Box(mirror).offer()).version == FLOORS[0]
        await take_in(mirror, bundle)
        assert [step.version for step in (await channel(mirror)).steps] == [FLOORS[0]]
        await Box(mirror, version=FLOORS[0]).nothing()


async def test_what_was_imported_stays_and_what_does_not_fit_is_refused(
    tmp_path: Path, nebraska: Nebraska, bundle: bytes
) -> None:
    other = body("other")
    nebraska.publish("9000.0.0", {PAYLOAD: other})
    nebraska.group("beta", "9000.0.0")
    async with with_line(tmp_path, nebraska) as mirror:
        beta = await exported(mirror, ExportRequest("beta", BOARD))
    size = 3 * 40_000 + len(AZURE) + len(PODMAN)
    async with without_line(tmp_path, cache={"max_size": size}) as mirror:
        await take_in(mirror, bundle)
        before = await mirror.service.cache.contents()
        with pytest.raises(NoSpace, match="max_size"):
            await take_in(mirror, beta)
        after = await mirror.service.cache.contents()
        assert after.blobs == before.blobs
        assert after.used == before.used == size
        assert [status.track for status in await mirror.service.warm_up.channels()] == ["stable"]


def current(mirror: Mirror) -> list[Release]:
    return mirror.service.catalog.current()


async def test_a_package_that_is_gone_is_offered_no_more(tmp_path: Path, bundle: bytes) -> None:
    async with without_line(tmp_path) as mirror:
        await take_in(mirror, bundle)
        [first] = [r for r in current(mirror) if r.version == FLOORS[0]]
        assert first.payload.sha256 is not None
        await mirror.service.cache.remove(first.payload.sha256.hex)
    async with without_line(tmp_path) as mirror:
        box = Box(mirror, version=OLD)
        await box.nothing()
        await take_in(mirror, bundle)
        assert (await box.offer()).version == FLOORS[0]


async def test_bundles_of_one_mirror_are_the_same_to_the_byte(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with with_line(tmp_path, nebraska) as mirror:
        first = await exported(mirror)
        other = await exported(mirror, ExportRequest("stable", BOARD, oems=("gce",)))
        assert other != first
        assert await exported(mirror) == first
    assert await bundle_of(tmp_path, nebraska) == first
