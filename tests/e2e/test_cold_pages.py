"""A package that is on disk and not in memory: sending it holds nobody up."""

import asyncio
import threading
from pathlib import Path

import pytest

from omaha_mirror.cache import page_cache
from tests.support.mirror import PAYLOAD_PATH, Mirror, mirror_in_process, real_payload
from tests.support.upstream import Upstream

CHECKS = 200


async def proven(mirror: Mirror, upstream: Upstream, payload: bytes) -> str:
    upstream.put(PAYLOAD_PATH, payload)
    path = await mirror.payload()
    assert (await mirror.get(path)).body == payload
    await mirror.until(lambda: bool(mirror.ended()))
    return path


async def test_checks_are_answered_while_the_disk_takes_its_time(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload, asked, served = real_payload(), asyncio.Event(), threading.Event()
    read = page_cache.load
    loop = asyncio.get_running_loop()

    def slow_disk(fd: int, offset: int, count: int) -> None:
        loop.call_soon_threadsafe(asked.set)
        assert served.wait(30)
        read(fd, offset, count)

    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        path = await proven(mirror, upstream, payload)
        monkeypatch.setattr(page_cache, "resident", lambda *_: False)
        monkeypatch.setattr(page_cache, "load", slow_disk)
        getting = asyncio.create_task(mirror.get(path))
        await asked.wait()
        for _ in range(CHECKS):
            assert (await mirror.check()).status == 200
        assert not getting.done()
        served.set()
        assert (await getting).body == payload


async def test_cold_pages_are_read_by_a_worker_once(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload, loaded = real_payload(), list[tuple[int, int, bool]]()
    read, resident = page_cache.load, page_cache.resident

    def load(fd: int, offset: int, count: int) -> None:
        loaded.append((offset, count, threading.current_thread() is threading.main_thread()))
        read(fd, offset, count)

    async with mirror_in_process(tmp_path, upstream.origin) as mirror:
        path = await proven(mirror, upstream, payload)
        monkeypatch.setattr(page_cache, "load", load)
        monkeypatch.setattr(page_cache, "resident", lambda *_: bool(loaded))
        assert (await mirror.get(path)).body == payload
        assert loaded == [(0, len(payload), False)]
        monkeypatch.setattr(page_cache, "resident", resident)
        assert (await mirror.get(path)).body == payload
        assert len(loaded) == 1
