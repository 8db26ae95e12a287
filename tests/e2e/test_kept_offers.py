"""What is here and proven stays offered, whatever the release host says of it later; what it has not yet is asked again."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import FLATCAR_APP_ID
from tests.e2e.site import Box, body, following, until
from tests.support.mirror import FOLDER, PAYLOAD, PAYLOAD_PATH, VERSION, Mirror
from tests.support.nebraska import Nebraska
from tests.support.upstream import Status, Upstream

AZURE = "oem-azure.gz"
PAGE = b"<html>Back soon</html>"


def gone(upstream: Upstream) -> None:
    for name in (PAYLOAD, AZURE):
        upstream.remove(f"{FOLDER}/{name}")


def page(upstream: Upstream) -> None:
    for name in (PAYLOAD, AZURE):
        upstream.put(f"{FOLDER}/{name}", PAGE, sidecar=False)
        upstream.put(f"{FOLDER}/{name}.sha256", PAGE, sidecar=False)


def another_length(upstream: Upstream) -> None:
    for name in (PAYLOAD, AZURE):
        upstream.put(f"{FOLDER}/{name}", PAGE, sidecar=False)


def another_sidecar(upstream: Upstream) -> None:
    for name in (PAYLOAD, AZURE):
        upstream.put(f"{FOLDER}/{name}.sha256", b"0" * 64, sidecar=False)


def denied(upstream: Upstream) -> None:
    for name in (PAYLOAD, AZURE):
        upstream.fault(f"{FOLDER}/{name}", Status(403))


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: body(VERSION), AZURE: body(AZURE)})
    nebraska.group("stable", VERSION)
    return nebraska


async def looked_up(mirror: Mirror) -> None:
    await mirror.service.catalog._lookups.quiet()


PASSING = [gone, page, another_length, denied]


@pytest.mark.parametrize(
    ("rule", "trouble"),
    # The sidecars are all that there is of a pin's manifest.
    [*product(["follow"], [*PASSING, another_sidecar]), *product([VERSION], PASSING)],
)
async def test_what_is_proven_stays_offered_after_a_restart_and_a_sync(
    tmp_path: Path, nebraska: Nebraska, rule: str, trouble: Callable[[Upstream], None]
) -> None:
    tracks = {"stable": rule}
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        box = Box(mirror, oem="azure")
        offer = await box.offer()
        for package in offer.packages:
            await box.download(offer, package)
        trouble(nebraska.upstream)
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        box.site = mirror
        for _ in range(2):
            again = await box.offer()
            assert [p.name for p in again.packages] == [PAYLOAD, AZURE]
            assert again.sha256 == offer.sha256
            await looked_up(mirror)
        await mirror.service.warm_up.sync()
        await looked_up(mirror)
        await box.download(await box.offer())


async def test_what_is_not_here_and_gone_is_offered_no_more(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror).offer()
        gone(nebraska.upstream)
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror).check()
        await looked_up(mirror)
        await Box(mirror).nothing()


async def test_what_upstream_withdraws_is_withdrawn_although_it_is_here(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        await box.download(await box.offer())
        nebraska.groups.clear()
        await mirror.service.warm_up.sync()
        await box.nothing()


async def test_other_bytes_in_the_manifest_replace_what_is_here(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        old = await box.offer()
        await box.download(old)
        nebraska.publish(VERSION, {PAYLOAD: body("other")})
        await mirror.service.warm_up.sync()
        await looked_up(mirror)
        new = await box.offer()
        assert new.sha256 != old.sha256
        await box.download(new)


@pytest.mark.parametrize("rule", ["follow", VERSION])
async def test_a_release_that_is_told_before_its_file_is_there_is_asked_for_again_by_itself(
    tmp_path: Path, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    monkeypatch.setattr("omaha_mirror.catalog.version_lookup.RETRY", 0.05)
    gone(nebraska.upstream)
    async with following(tmp_path, nebraska, tracks={"stable": rule}) as mirror:
        await Box(mirror).nothing()
        preview = mirror.service.decisions.dry_run(Box(mirror).client.check().apps[0])
        assert preview is not None
        assert preview.reason is Reason.NOT_RELEASED
        nebraska.upstream.put(PAYLOAD_PATH, body(VERSION))

        def known() -> bool:
            known = mirror.service.catalog.known(FLATCAR_APP_ID, "amd64-usr", VERSION)
            return known is not None and known.release is not None

        await until(mirror, known)
        await Box(mirror).offer()
