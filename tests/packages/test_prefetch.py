"""What is fetched ahead of the machines, and what is not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from omaha_mirror.packages.prefetch import chosen
from tests.catalog.scene import release
from tests.e2e.site import FLOORS, TARGET, Box, body, following, until
from tests.support.mirror import PAYLOAD, Mirror
from tests.support.nebraska import Nebraska
from tests.support.upstream import Status, Upstream

AZURE, GCE, PODMAN, PYTHON = (
    "oem-azure.gz",
    "oem-gce.gz",
    "flatcar-podman.gz",
    "flatcar-python.gz",
)
OLDER = FLOORS[1]


def files(version: str) -> Mapping[str, bytes]:
    names = (AZURE, GCE, PODMAN, PYTHON)
    return {PAYLOAD: body(version), **{name: f"{name} {version}".encode() * 50 for name in names}}


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    """Two releases with the same extra packages."""
    nebraska = Nebraska(upstream)
    for version in (OLDER, TARGET):
        nebraska.publish(version, files(version))
    nebraska.group("stable", TARGET, floors=[OLDER])
    return nebraska


def fetched(upstream: Upstream, version: str) -> set[str]:
    """What of a release was fetched whole."""
    return {
        name
        for name, content in files(version).items()
        if upstream.bytes_sent(f"/amd64-usr/{version}/{name}") == len(content)
    }


async def get(mirror: Mirror, version: str, name: str = PAYLOAD) -> None:
    assert (await mirror.get(f"/amd64-usr/{version}/{name}")).body == files(version)[name]


def test_the_payload_brings_packages_that_machines_asked_about_and_extensions_in_use() -> None:
    found = chosen(release(AZURE, GCE, PODMAN, PYTHON), {AZURE, "oem-ami.gz"}, {PODMAN})
    assert [file.name for file in found] == [AZURE, PODMAN]


async def test_with_a_payload_comes_the_oem_package_of_machines_here(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror, oem="azure").offer()
        assert fetched(upstream, OLDER) == set()
        await get(mirror, OLDER)
        await until(mirror, lambda: len(mirror.ended()) == 2)
        assert fetched(upstream, OLDER) == {PAYLOAD, AZURE}
        assert fetched(upstream, TARGET) == set()


async def test_an_extension_that_was_asked_for_comes_with_the_next_release(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror).offer()
        await get(mirror, OLDER, PODMAN)
    # What is in the cache tells a mirror that was restarted.
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror, version=OLDER).offer()
        await get(mirror, TARGET)
        await until(mirror, lambda: len(mirror.ended()) == 2)
        assert fetched(upstream, TARGET) == {PAYLOAD, PODMAN}


async def test_what_cannot_be_fetched_ahead_is_said_once_and_stops_nothing(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault(f"/amd64-usr/{OLDER}/{AZURE}", Status(404, method="GET"))
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, oem="azure")
        offer = await box.offer()
        with capture_logs() as logs:
            await box.download(offer)
            await until(mirror, lambda: any("fetched ahead" in e["event"] for e in logs))
            for _ in range(3):
                await box.download(offer)
                await mirror.round_trips()
        [line] = [entry for entry in logs if "fetched ahead" in entry["event"]]
        assert line["source"] == upstream.url(f"/amd64-usr/{OLDER}/{AZURE}")
        assert "404" in line["why"]


async def test_an_oem_that_comes_later_has_its_package_fetched_too(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        for number, oem in enumerate(("azure", "gce"), 1):
            await Box(mirror, number=number, oem=oem).offer()
            await get(mirror, OLDER)
            await until(mirror, lambda: len(mirror.ended()) == number + 1)  # noqa: B023
        assert fetched(upstream, OLDER) == {PAYLOAD, AZURE, GCE}


async def test_a_stop_does_not_wait_for_what_is_fetched_ahead(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    gate = upstream.hold(f"/amd64-usr/{OLDER}/{AZURE}", at=10)
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror, oem="azure").offer()
        await get(mirror, OLDER)
        await gate.reached()
    assert fetched(upstream, OLDER) == {PAYLOAD}
