"""`sync`: upstream is asked now, and what it says holds at once."""

import json
from pathlib import Path

from omaha_mirror.omaha import FLATCAR_APP_ID
from tests.cli.running import run
from tests.e2e.site import STEPS, TARGET, Box, before, body
from tests.support.mirror import PAYLOAD, MirrorProcess
from tests.support.nebraska import Group, Nebraska
from tests.support.upstream import Upstream

LINE = f"stable amd64-usr: {' -> '.join(STEPS)}\n"


def group(nebraska: Nebraska) -> Group:
    return nebraska.groups[FLATCAR_APP_ID, "stable", "amd64-usr"]


def process(directory: Path, nebraska: Nebraska) -> MirrorProcess:
    return MirrorProcess(directory, nebraska.upstream.origin, **before(nebraska))


async def test_what_upstream_says_now_holds_at_once(tmp_path: Path, nebraska: Nebraska) -> None:
    async with process(tmp_path, nebraska) as mirror:
        done = await run(tmp_path, "sync")
        assert (done.status, done.err) == (0, "")
        assert "no track is followed yet" in done.out
        await Box(mirror).offer()
        done = await run(tmp_path, "sync")
        assert (done.status, done.out) == (0, LINE)
        nebraska.publish("3900.0.0", {PAYLOAD: body("3900.0.0")})
        group(nebraska).version = "3900.0.0"
        done = await run(tmp_path, "sync", "stable", "--json")
        [track] = json.loads(done.out)["tracks"]
        assert [step["version"] for step in track["steps"]] == [*STEPS[:2], "3900.0.0"]
        assert (track["track"], track["trouble"], track["reason"]) == ("stable", "", "offered")
        assert (await Box(mirror, version=TARGET).offer()).version == "3900.0.0"
        group(nebraska).updates_enabled = False
        done = await run(tmp_path, "sync")
        assert done.status == 0
        assert "error-updatesDisabled" in done.out
        await Box(mirror).nothing()


async def test_a_track_that_nobody_asked_about_is_not_found(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with process(tmp_path, nebraska):
        done = await run(tmp_path, "sync", "beta")
    assert (done.status, done.out) == (3, "")
    assert "the track is not followed" in done.err


async def test_an_outage_has_its_own_exit_status_and_names_the_server(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with process(tmp_path, nebraska) as mirror:
        await Box(mirror).offer()
        await upstream.refuse()
        upstream.cut_all()
        done = await run(tmp_path, "sync")
        assert done.status == 5
        assert done.out.startswith("stable amd64-usr: ")
        assert nebraska.url in done.out
        await Box(mirror).offer()
        await upstream.listen()
        assert (await run(tmp_path, "sync")).out == LINE


async def test_without_a_mirror_that_runs_nobody_asks(tmp_path: Path, nebraska: Nebraska) -> None:
    process(tmp_path, nebraska)
    done = await run(tmp_path, "sync")
    assert done.status == 1
    assert "no mirror runs" in done.err
