"""A cache that cannot keep a package stops no update: the package passes through."""

import asyncio
import random
import shutil
from functools import partialmethod
from pathlib import Path

import pytest

from omaha_mirror.fleet import FleetRecorder
from omaha_mirror.observability.health import State
from tests.support.disks import fill_up, small_disk
from tests.support.mirror import PAYLOAD_PATH, VERSION, mirror_in_process, real_payload
from tests.support.upstream import Corrupt, Upstream

CLIENTS = 5


def kept(directory: Path) -> list[Path]:
    """What there is of packages on the disk."""
    return [*directory.glob("cache/blobs/??/*"), *directory.glob("cache/partial/*")]


async def test_a_package_larger_than_the_cache_reaches_all_in_one_flight(
    tmp_path: Path, upstream: Upstream
) -> None:
    payload = real_payload()
    upstream.put(PAYLOAD_PATH, payload)
    small = {"max_size": len(payload) - 1}
    async with mirror_in_process(tmp_path, upstream.origin, cache=small) as mirror:
        path = await mirror.payload()
        gate = upstream.hold(PAYLOAD_PATH, at=len(payload) // 2)
        getting = [asyncio.create_task(mirror.get(path)) for _ in range(CLIENTS)]
        await mirror.until(mirror.opened(CLIENTS))
        gate.open()
        for answer in await asyncio.gather(*getting):
            assert answer.body == payload
        assert upstream.bytes_sent(PAYLOAD_PATH) == len(payload)
        assert kept(tmp_path) == []


async def test_wrong_bytes_do_not_pass_through(tmp_path: Path, upstream: Upstream) -> None:
    payload = random.Random(1).randbytes(len(real_payload()))
    upstream.put(PAYLOAD_PATH, payload)
    upstream.fault(PAYLOAD_PATH, Corrupt(at=len(payload) // 2, times=1))
    small = {"max_size": len(payload) - 1, "hold_back": 65536}
    async with mirror_in_process(tmp_path, upstream.origin, cache=small) as mirror:
        path = await mirror.payload()
        gate = upstream.hold(PAYLOAD_PATH, at=len(payload) - 1)
        getting = asyncio.create_task(mirror.get(path))
        await gate.reached()
        await mirror.round_trips()
        gate.open()
        assert len((await getting).body) < len(payload) - 1
        assert (await mirror.get(path)).body == payload


async def test_a_cache_directory_that_vanished_stops_no_update(
    tmp_path: Path, upstream: Upstream
) -> None:
    payload = real_payload()
    upstream.put(PAYLOAD_PATH, payload)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        path = await mirror.payload()
        shutil.rmtree(tmp_path / "cache")
        assert (await mirror.get(path)).body == payload
        assert (await mirror.get(path)).body == payload


async def test_in_an_empty_directory_in_its_place_packages_are_kept_again(
    tmp_path: Path, upstream: Upstream
) -> None:
    """A disk that was mounted anew, or somebody who tidied up: no lock is in there."""
    payload = real_payload()
    upstream.put(PAYLOAD_PATH, payload)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        path = await mirror.payload()
        assert (await mirror.get(path)).body == payload
        await mirror.until(lambda: len(mirror.ended()) == 1)
        (tmp_path / "cache").rename(tmp_path / "before")
        (tmp_path / "cache").mkdir()
        assert (await mirror.get(path)).body == payload
        await mirror.until(lambda: len(mirror.ended()) == 2)
        assert (await mirror.get(path)).body == payload
        assert upstream.bytes_sent(PAYLOAD_PATH) == 2 * len(payload)
        assert payload in [file.read_bytes() for file in kept(tmp_path)]
        health = await mirror.service.examine()
        [found] = [finding for finding in health.findings if finding.name == "cache"]
        assert found.state is State.DEGRADED
        assert "another one than at the start" in found.words


async def test_full_disks_stop_neither_a_start_nor_an_update(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FleetRecorder, "close", partialmethod(FleetRecorder.close, deadline=0.1))
    payload = real_payload()
    upstream.put(PAYLOAD_PATH, payload)
    with small_disk(tmp_path / "state") as state, small_disk(tmp_path / "cache") as cache:
        async with mirror_in_process(tmp_path, upstream.origin) as mirror:
            assert (await mirror.get(await mirror.payload())).body == payload
        fill_up(state)
        fill_up(cache)
        async with mirror_in_process(
            tmp_path, upstream.origin, tracks={"stable": VERSION, "edge": "follow"}
        ) as mirror:
            sent = upstream.bytes_sent(PAYLOAD_PATH)
            assert (await mirror.get(await mirror.payload())).body == payload
            assert upstream.bytes_sent(PAYLOAD_PATH) == sent, "it was kept"
            health = await mirror.service.examine()
            assert (health.ready, health.state) == (True, State.DEGRADED)
            degraded = {f.name for f in health.findings if f.state is State.DEGRADED}
            assert {"cache", "state"} <= degraded
