"""`fetch`: a release is in the cache before machines ask, and whoever wants it there is told how far it is."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.running import begin, run
from tests.e2e.site import FLOORS, STEPS, TARGET, Box, before, body, three_steps
from tests.support.mirror import PAYLOAD, MirrorProcess
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Corrupt, Upstream

pytestmark = pytest.mark.long

FILE = f"/amd64-usr/{TARGET}/{PAYLOAD}"
ARM = "arm64-usr"


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    """Two floors and a target, the target for arm64 as well."""
    nebraska = Nebraska(upstream)
    three_steps(nebraska)
    nebraska.publish(TARGET, {PAYLOAD: b"arm" * 1000}, board=ARM)
    nebraska.group("stable", TARGET, board=ARM)
    return nebraska


def process(directory: Path, nebraska: Nebraska, **changes: object) -> MirrorProcess:
    return MirrorProcess(directory, nebraska.upstream.origin, **before(nebraska, **changes))


async def test_a_version_is_fetched_once_and_then_served_without_upstream(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with process(tmp_path, nebraska) as mirror:
        for _ in range(2):
            done = await run(tmp_path, "fetch", TARGET)
            assert (done.status, done.out) == (0, f"{PAYLOAD} is here, 40.0 kB\n")
            assert done.err == f"downloading {PAYLOAD}, 40.0 kB\n"
        assert upstream.bytes_sent(FILE) == 40_000
        await upstream.refuse()
        upstream.cut_all()
        assert (await mirror.get(FILE)).body == body(TARGET)
        await upstream.listen()


async def test_a_track_is_fetched_in_the_version_that_it_leads_to_for_the_board(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with process(tmp_path, nebraska) as mirror:
        done = await run(tmp_path, "fetch", "stable", "--board", ARM)
        assert (done.status, done.out) == (0, f"{PAYLOAD} is here, 3.0 kB\n")
        assert upstream.bytes_sent(f"/{ARM}/{TARGET}/{PAYLOAD}") == 3000
        assert upstream.bytes_sent(FILE) == 0
        box = Box(mirror, board=ARM)
        await box.update()
        assert upstream.bytes_sent(f"/{ARM}/{TARGET}/{PAYLOAD}") == 3000


async def test_progress_is_told_as_json_while_it_goes_on(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    gate = upstream.hold(FILE, at=10_000)
    async with process(tmp_path, nebraska):
        command = await begin(tmp_path, "fetch", TARGET, "--json")
        assert command.stdout is not None
        told = []
        async with asyncio.timeout(PATIENCE):
            async for line in command.stdout:
                told.append(json.loads(line))
                if told[-1]["filled"] == 10_000:
                    gate.open()
            await command.wait()
    assert command.returncode == 0
    assert all((report["name"], report["size"]) == (PAYLOAD, 40_000) for report in told)
    assert [report["done"] for report in told] == [False] * (len(told) - 1) + [True]
    assert 10_000 in [report["filled"] for report in told]
    assert told[-1]["filled"] == 40_000
    assert told[-1]["error"] == ""


async def test_extra_packages_that_this_site_uses_are_fetched_with_it(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    extras = {"oem-azure.gz": b"azure" * 100, "oem-gce.gz": b"gce" * 100}
    nebraska.publish(TARGET, {PAYLOAD: body(TARGET), **extras})
    async with process(tmp_path, nebraska) as mirror:
        await Box(mirror, version=FLOORS[1], oem="azure").offer()
        done = await run(tmp_path, "fetch", "stable", "--json")
        assert done.status == 0
        here = [r["name"] for r in done.lines if r["done"]]
        assert here == [PAYLOAD] * len(STEPS) + ["oem-azure.gz"]


async def test_what_upstream_does_not_have_is_not_found(tmp_path: Path, nebraska: Nebraska) -> None:
    async with process(tmp_path, nebraska, tracks={"old": "hold"}):
        for target, words in [
            ("9999.0.0", "no such release"),
            ("nightly", "error-failedToRetrieveUpdatePackageInfo"),
            ("old", "name a version"),
        ]:
            done = await run(tmp_path, "fetch", target)
            assert (done.status, done.out) == (3, "")
            assert words in done.err


async def test_an_outage_has_its_own_exit_status(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    await upstream.refuse()
    async with process(tmp_path, nebraska):
        for target in (TARGET, "stable"):
            done = await run(tmp_path, "fetch", target)
            assert (done.status, done.out) == (5, "")
            assert upstream.origin in done.err
    await upstream.listen()


async def test_wrong_bytes_are_a_failure_and_told(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault(FILE, Corrupt(at=5))
    async with process(tmp_path, nebraska):
        done = await run(tmp_path, "fetch", TARGET)
    assert (done.status, done.out) == (1, "")
    assert f"{PAYLOAD} cannot be downloaded" in done.err


async def test_a_board_that_there_is_not_is_refused(tmp_path: Path, nebraska: Nebraska) -> None:
    async with process(tmp_path, nebraska):
        done = await run(tmp_path, "fetch", TARGET, "--board", "riscv")
    assert done.status != 0
    assert "amd64-usr, arm64-usr" in done.err


async def test_without_a_mirror_that_runs_there_is_nothing_to_fetch_through(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    process(tmp_path, nebraska)
    done = await run(tmp_path, "fetch", TARGET)
    assert done.status == 1
    assert "no mirror runs" in done.err
