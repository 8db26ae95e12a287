"""A cache directory that answers nobody: machines are answered, and get their packages from upstream."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.observability import health
from omaha_mirror.observability.health import State
from tests.cache.test_hanging_disk import Disk, disk
from tests.support.mirror import PAYLOAD_PATH, mirror_in_process, real_payload
from tests.support.upstream import Upstream

__all__ = ["disk"]


async def test_machines_notice_nothing_of_a_disk_that_hangs(
    tmp_path: Path, upstream: Upstream, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = real_payload()
    upstream.put(PAYLOAD_PATH, payload)
    monkeypatch.setattr(health, "DEADLINE", 0.2)
    monkeypatch.setattr(health, "FRESH", 0.0)
    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        path = await mirror.payload()
        assert (await mirror.get(path)).body == payload
        await mirror.until(lambda: bool(mirror.ended()))
        disk.hang(tmp_path / "cache")
        getting = [asyncio.create_task(mirror.get(path)) for _ in range(12)]
        await asyncio.to_thread(disk.asked.acquire)
        assert await mirror.payload() == path
        found = await mirror.service.examine()
        assert (found.ready, found.state) == (True, State.DEGRADED)
        assert any(str(tmp_path / "cache") in f.words for f in found.findings if f.state != "ok")
        for answer in await asyncio.gather(*getting):
            assert (answer.status, answer.body) == (200, payload)
        assert upstream.bytes_sent(PAYLOAD_PATH) <= 3 * len(payload)
        disk.answers.set()
        while (await mirror.service.examine()).state is not State.OK:
            await mirror.round_trips(1)
        sent = upstream.bytes_sent(PAYLOAD_PATH)
        assert (await mirror.get(path)).body == payload
        assert upstream.bytes_sent(PAYLOAD_PATH) == sent
