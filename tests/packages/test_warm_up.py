"""What an operator asks for: a release here before machines want it."""

from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.omaha import FLATCAR_APP_ID
from omaha_mirror.packages.prefetch import FetchProgress
from omaha_mirror.policy.tracks import NothingToFetch
from tests.e2e.site import FLOORS, TARGET, body, following
from tests.support.mirror import PAYLOAD, Mirror
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Status, Upstream

BOARD = "amd64-usr"
OTHER_APP = "11111111-2222-3333-4444-555555555555"
THIRD_APP = "22222222-2222-3333-4444-555555555555"


async def warm(mirror: Mirror, target: str) -> list[FetchProgress]:
    return [step async for step in mirror.service.warm_up.warm(target, BOARD)]


def here(upstream: Upstream) -> list[str]:
    """The versions that were fetched."""
    return [v for v in (*FLOORS, TARGET) if upstream.bytes_sent(f"/{BOARD}/{v}/{PAYLOAD}")]


@pytest.mark.parametrize(
    ("rule", "versions"),
    [
        ("follow", [*FLOORS, TARGET]),
        (FLOORS[0], [FLOORS[0]]),
        ({"version": TARGET, "skip_floors": True}, [TARGET]),
        ({"mode": "follow", "max_version": "3500.0.0"}, [*FLOORS]),
        ({"mode": "follow", "delay": "48h"}, [*FLOORS, TARGET]),
    ],
)
async def test_a_track_is_fetched_in_all_versions_that_its_machines_will_be_led_through(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, rule: Any, versions: list[str]
) -> None:
    async with following(tmp_path, nebraska, tracks={"stable": rule}) as mirror:
        *going, last = await warm(mirror, "stable")
        assert last == FetchProgress(PAYLOAD, 40_000, 40_000, done=True)
        assert sum(step.done for step in going) == len(versions) - 1
        assert here(upstream) == versions


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("held", "hold"),
        ("passed-on", "relay"),
        ("bounded", "max_version"),
        ("9999.0.0", "no such release"),
        ("nobody", "error-failedToRetrieveUpdatePackageInfo"),
    ],
)
async def test_where_there_is_nothing_it_is_said_before_anything_is_fetched(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, target: str, words: str
) -> None:
    tracks = {
        "held": "hold",
        "passed-on": "relay",
        "bounded": {"mode": "follow", "max_version": "1.0.0"},
    }
    nebraska.group("bounded", TARGET)
    async with following(tmp_path, nebraska, tracks=tracks) as mirror:
        with pytest.raises(NothingToFetch, match=words) as caught:
            await warm(mirror, target)
        assert not caught.value.unreachable
        assert here(upstream) == []


async def test_without_an_omaha_server_a_track_that_follows_leads_nowhere(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, upstream={"omaha_url": None}) as mirror:
        with pytest.raises(NothingToFetch, match="omaha_url is null"):
            await warm(mirror, "stable")
        assert (await warm(mirror, TARGET))[-1].done


async def test_an_outage_is_told_from_an_absence(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault(PATH, Status(503))
    upstream.fault(f"/{BOARD}/{TARGET}/{PAYLOAD}", Status(503))
    async with following(tmp_path, nebraska) as mirror:
        for target in ("stable", TARGET):
            with pytest.raises(NothingToFetch) as caught:
                await warm(mirror, target)
            assert caught.value.unreachable


async def test_an_application_without_the_release_spoils_nothing_for_the_others(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    apps = {"upstream": {"app_ids": [OTHER_APP, FLATCAR_APP_ID, THIRD_APP]}}
    async with following(tmp_path, nebraska, **apps) as mirror:
        assert [step.error for step in await warm(mirror, "stable") if step.done] == [""] * 3
        assert here(upstream) == [*FLOORS, TARGET]


async def test_a_release_without_any_digest_is_fetched_to_be_known(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    path = f"/{BOARD}/2135.6.0/{PAYLOAD}"
    upstream.put(path, body("2135.6.0"), sidecar=False)
    async with following(tmp_path, nebraska) as mirror:
        assert await warm(mirror, "2135.6.0") == [
            FetchProgress(PAYLOAD, 40_000, 0),
            FetchProgress(PAYLOAD, 40_000, 40_000, done=True),
        ]
        assert upstream.bytes_sent(path) == 40_000
