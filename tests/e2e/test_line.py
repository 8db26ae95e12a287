"""The line is scarce: what is fetched at once is bounded, and those who wait go first."""

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest

from omaha_mirror.cache import FetchScheduler, Limits
from tests.e2e.site import body
from tests.support.mirror import FOLDER, PAYLOAD, VERSION, Mirror, mirror_in_process, real_payload
from tests.support.upstream import Drip, Upstream

EXTRA = "oem-azure.gz"


async def two_packages(mirror: Mirror, upstream: Upstream) -> str:
    upstream.put(f"{FOLDER}/{PAYLOAD}", real_payload())
    upstream.put(f"{FOLDER}/{EXTRA}", real_payload(EXTRA))
    return await mirror.folder()


async def test_a_fill_beyond_max_fills_waits_in_a_queue_that_can_be_seen(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with mirror_in_process(
        tmp_path, upstream.origin, upstream={"max_fills": 1}, cache={"hold_back": 65536}
    ) as mirror:
        folder = await two_packages(mirror, upstream)
        gate = upstream.hold(f"{FOLDER}/{PAYLOAD}", at=1000)
        first = asyncio.create_task(mirror.get(folder + PAYLOAD))
        await gate.reached()
        second = asyncio.create_task(mirror.get(folder + EXTRA))
        await mirror.until(mirror.opened(2))
        await mirror.round_trips()
        assert [fill.queued for fill in mirror.service.cache.fills()] == [0, 1]
        assert upstream.requests(f"{FOLDER}/{EXTRA}", "GET") == []
        gate.open()
        assert (await first).body == real_payload()
        assert (await second).body == real_payload(EXTRA)


async def test_the_rate_limit_can_be_changed_while_a_package_is_fetched(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with mirror_in_process(
        tmp_path, upstream.origin, upstream={"rate_limit": 1024}, cache={"hold_back": 65536}
    ) as mirror:
        folder = await two_packages(mirror, upstream)
        getting = asyncio.create_task(mirror.get(folder + PAYLOAD))
        await upstream.until(lambda: upstream.bytes_sent(f"{FOLDER}/{PAYLOAD}") > 0)
        await mirror.round_trips(200)
        [fill] = [f for f in mirror.service.cache.fills() if f.source.endswith(PAYLOAD)]
        assert fill.filled < len(real_payload()) // 2
        mirror.service.cache.scheduler.change(None, 3)
        assert (await getting).body == real_payload()


async def test_a_connection_that_drips_is_left_for_one_that_does_not(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never stalls, and would take for ever."""
    monkeypatch.setattr("omaha_mirror.composition.Limits", partial(Limits, slow_seconds=1.0))
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        folder = await two_packages(mirror, upstream)
        upstream.fault(f"{FOLDER}/{PAYLOAD}", Drip(times=1, rate=20.0, method="GET"))
        assert (await mirror.get(folder + PAYLOAD)).body == real_payload()
        first, second = upstream.requests(f"{FOLDER}/{PAYLOAD}", "GET")
        assert first.range is None
        assert re.fullmatch(r"bytes=[1-9]\d{0,2}-", second.range or "")


async def test_one_client_with_three_large_packages_holds_up_nobody(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "omaha_mirror.composition.FetchScheduler", partial(FetchScheduler, slice_seconds=0.1)
    )
    tracks = {"stable": VERSION, **{f"t{number}": f"4000.{number}.0" for number in range(3)}}
    async with mirror_in_process(tmp_path, upstream.origin, tracks=tracks) as mirror:
        folder = await two_packages(mirror, upstream)
        gates, reading = [], []
        for number in range(3):
            path = f"/amd64-usr/4000.{number}.0/{PAYLOAD}"
            upstream.put(path, body(str(number), 8_000_000))
            gates.append(upstream.hold(path, at=1_000_000))
            assert (await mirror.get(f"{path}.sha256")).status == 200
            reading.append(asyncio.create_task(mirror.get(path)))
        await asyncio.gather(*(gate.reached() for gate in gates))
        assert (await mirror.get(folder + EXTRA)).body == real_payload(EXTRA)
        assert not any(task.done() for task in reading)
        for gate in gates:
            gate.open()
        for number, task in enumerate(reading):
            assert (await task).body == body(str(number), 8_000_000)
