"""A flood does not fill the log, and is not hidden either."""

import asyncio

import pytest
from structlog.testing import capture_logs

from omaha_mirror.web import public, rate_limited_log
from omaha_mirror.web.rate_limited_log import RateLimitedLog
from tests.support.mirror import Mirror
from tests.support.talk import Talk, dial, request


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> RateLimitedLog:
    """A log whose minute is over with the next turn of the loop."""
    monkeypatch.setattr(rate_limited_log, "MINUTE", 0)
    return RateLimitedLog()


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_first_is_told_at_once_and_the_others_are_counted(log: RateLimitedLog) -> None:
    with capture_logs() as logs:
        for path in ("/a", "/b", "/c"):
            log.tell("refused", "192.0.2.1", 404, path=path)
        first = {"event": "refused", "remote": "192.0.2.1", "status": 404, "log_level": "info"}
        assert logs == [{**first, "path": "/a"}]
        await turn()
        assert logs[1:] == [{**first, "again": 2}]
        log.tell("refused", "192.0.2.1", 404, path="/d")
        assert logs[2:] == [{**first, "path": "/d"}]
        await turn()
        assert len(logs) == 3


async def test_another_address_and_another_status_are_told_too(log: RateLimitedLog) -> None:
    with capture_logs() as logs:
        log.tell("refused", "192.0.2.1", 404)
        log.tell("refused", "192.0.2.2", 404)
        log.tell("refused", "192.0.2.1", 405)
    assert len(logs) == 3
    await turn()


async def test_a_flood_from_many_addresses_is_told_as_one(
    log: RateLimitedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limited_log, "REMEMBERED", 2)
    with capture_logs() as logs:
        for i in range(100):
            log.tell("refused", f"192.0.2.{i}", 404)
        await turn()
    assert [line["remote"] for line in logs] == ["192.0.2.0", "192.0.2.1", *["many addresses"] * 2]
    assert logs[-1]["again"] == 97


async def test_each_kind_of_refused_request_is_told_in_the_log(mirror: Mirror) -> None:
    with capture_logs() as logs:
        async with dial(mirror.address) as talk:
            for _ in range(50):
                await talk.send(request("GET", "/nothing"), request("PUT", "/v1/update"))
                assert await statuses(talk) == [404, 405]
    lines = [(line["event"], line["status"], line["path"]) for line in logs]
    assert lines == [("refused", 404, "/nothing"), ("refused", 405, "/v1/update")]


async def test_who_is_refused_again_and_again_waits_and_the_others_do_not(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "TOLERATED", 2)
    monkeypatch.setattr(public, "LATE", 3600)
    monkeypatch.setattr(public, "LATEST", 3600)
    async with dial(mirror.address) as flood, dial(mirror.address, source="127.0.0.2") as other:
        await flood.send(request("GET", "/nothing") * 3)
        assert await statuses(flood) == [404, 404]
        await other.send(request("GET", "/nothing"))
        assert (await other.answer()).status == 404
        assert (await mirror.check()).status == 200
        assert flood.arrived() == b""
        await mirror.listener.stop()
        assert (await flood.answer()).status == 404


async def statuses(talk: Talk) -> list[int]:
    return [(await talk.answer()).status for _ in range(2)]


async def test_what_is_no_http_is_told_once(mirror: Mirror) -> None:
    with capture_logs() as logs:
        for i in range(10):
            async with dial(mirror.address) as talk:
                await talk.send(f"hello {i}\r\n\r\n")
                assert (await talk.answer()).status == 400
    assert [line["event"] for line in logs] == ["bad HTTP"]
