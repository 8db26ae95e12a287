"""Names that clients make up: tracks, OEMs and files of which upstream knows nothing take nothing from anybody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from omaha_mirror.catalog.catalog_file import load
from omaha_mirror.catalog.followed import MAX_LEARNT
from omaha_mirror.catalog.lookup import TOGETHER
from omaha_mirror.catalog.question_rate_limit import AT_ONCE, FEW
from omaha_mirror.catalog.version_lookup import MAX_NAMES
from omaha_mirror.omaha import FLATCAR_APP_ID
from tests.e2e.site import Box, following, three_steps
from tests.observability.exposed import series
from tests.support.mirror import FOLDER, PAYLOAD, PAYLOAD_PATH, VERSION, mirror_in_process
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

MANY = 3 * MAX_LEARNT
AZURE = "oem-azure.gz"


@asynccontextmanager
async def flood(checks: Iterable[Awaitable[object]]) -> AsyncIterator[None]:
    """Clients that ask all at once, and whose answers nobody waits for."""
    tasks = [asyncio.ensure_future(check) for check in checks]
    await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [e for e in ended if isinstance(e, Exception)]


async def test_made_up_tracks_keep_no_real_one_out(tmp_path: Path, upstream: Upstream) -> None:
    nebraska = Nebraska(upstream)
    three_steps(nebraska)
    boxes = [Box(None, number=1000 + i, track=f"t{i}") for i in range(MANY)]  # type: ignore[arg-type]  # its site comes later
    async with following(tmp_path, nebraska) as mirror:
        for box in boxes:
            box.site = mirror
        async with flood(box.check() for box in boxes):
            assert await Box(mirror).update() == "3200.0.0"
        named = {app.track for request in nebraska.requests for app in request.apps}
        assert len(named - {"stable"}) <= AT_ONCE + MAX_LEARNT
        await mirror.service.examine()
        tracks = {
            dict(labels)["track"]
            for _, labels in series(mirror.service.metrics)
            if "track" in dict(labels)
        }
        assert tracks == {"stable"}
    state = load(tmp_path / "state" / "catalog.json")
    assert [item.key.track for item in state.channels] == ["stable"]
    await upstream.refuse()
    async with following(tmp_path, nebraska) as mirror:
        for box in boxes:
            box.site = mirror
        async with flood(box.check() for box in boxes):
            assert (await Box(mirror, "3400.0.0").offer()).version == VERSION


@pytest.mark.long
@pytest.mark.parametrize("by", ["check", "path"])
async def test_made_up_oems_keep_no_real_one_out_and_cost_a_look_each(
    release: Upstream, payload: bytes, tmp_path: Path, by: str
) -> None:
    release.put(f"{FOLDER}/{AZURE}", b"azure" * 100)
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        await Box(mirror, number=1).offer()
        count = len(release.log)
        if by == "check":
            boxes = [Box(mirror, number=1000 + i, oem=f"e{i}") for i in range(MANY)]
            checks: list[Awaitable[object]] = [box.check() for box in boxes]
        else:
            checks = [mirror.get(f"{FOLDER}/oem-e{i}.gz") for i in range(MANY)]
        async with flood(checks):
            offer = await Box(mirror, number=2, oem="azure").offer()
            assert [package.name for package in offer.packages] == [PAYLOAD, AZURE]
            assert (await mirror.get(f"{FOLDER}/{AZURE}")).status == 200
        assert len(release.log) - count < 4 * AT_ONCE
        assert len(release.requests(PAYLOAD_PATH, "HEAD")) <= 2
    [kept] = [item for item in load(tmp_path / "state" / "catalog.json").releases if item.current]
    assert len(kept.looked_up) <= MAX_NAMES + TOGETHER + 1
    assert kept.release.app_id == FLATCAR_APP_ID


async def test_a_known_oem_waits_behind_no_made_up_one(release: Upstream, tmp_path: Path) -> None:
    release.put(f"{FOLDER}/{AZURE}", b"azure" * 100)
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        for i in range(AT_ONCE + FEW):
            await Box(mirror, number=1000 + i, oem=f"e{i}").check()
        offer = await Box(mirror, number=2, oem="azure").offer()
        assert [package.name for package in offer.packages] == [PAYLOAD, AZURE]


async def test_made_up_boards_and_files_are_nothing_to_ask_about(
    release: Upstream, tmp_path: Path
) -> None:
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        for n in range(20):
            for path in (f"/b{n}-usr/{VERSION}/{PAYLOAD}", f"/amd64-usr/{n}.0.0/{PAYLOAD}"):
                assert (await mirror.get(path)).status == 404
        assert release.log == []
        await mirror.get(PAYLOAD_PATH)
        count = len(release.log)
        for n in range(20):
            assert (await mirror.get(f"{FOLDER}/flatcar-e{n}.gz")).status == 404
            assert (await mirror.get(f"{FOLDER}/e{n}.gz.sha256")).status == 404
        assert len(release.log) == count
