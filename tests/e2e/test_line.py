"""The line is scarce: what is fetched at once is bounded, and those who wait go first."""

import asyncio
from pathlib import Path

from tests.support.mirror import FOLDER, PAYLOAD, Mirror, mirror_in_process, real_payload
from tests.support.upstream import Upstream

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
        mirror.service.cache.line.change(None, 3)
        assert (await getting).body == real_payload()
