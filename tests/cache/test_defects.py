"""An error that nobody expects: the log has its traceback, readers a plain line, and the books stay straight."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from omaha_mirror.cache import Limits
from omaha_mirror.cache.errors import Defect, SourceFailed
from omaha_mirror.cache.events import FillEnded, Outcome
from tests.cache.conftest import MakeSite
from tests.cache.site import Site
from tests.cache.source import ScriptedSource

SIZE = 1024 * 1024
BUG = ZeroDivisionError("a defect in here")


def tracebacks(logs: list[MutableMapping[str, Any]]) -> list[object]:
    return [entry.get("exc_info") for entry in logs if entry["log_level"] == "error"]


@pytest.mark.parametrize("step", ["draft", "begin", "write", "read", "free"])
async def test_a_defect_in_the_store_ends_the_fill(
    site: Site, source: ScriptedSource, step: str
) -> None:
    site.store.failures[step] = BUG
    with capture_logs() as logs, pytest.raises(Defect) as met:
        await site.read(source)
    assert "division" not in str(met.value).lower()
    assert str(BUG) not in str(met.value)
    assert tracebacks(logs) == [BUG]
    ended = await site.event(FillEnded)
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, str(met.value))
    site.store.failures.clear()
    assert await site.read(source) == source.data


async def test_a_defect_of_the_source_ends_the_fill(site: Site, source: ScriptedSource) -> None:
    source.refusals.append(BUG)
    with capture_logs() as logs, pytest.raises(Defect):
        await site.cache.fetch(source.expected, source)
    assert tracebacks(logs) == [BUG]


async def test_a_defect_at_the_end_spoils_nothing(site: Site, source: ScriptedSource) -> None:
    site.store.failures["commit"] = BUG
    with capture_logs() as logs:
        assert await site.read(source) == source.data
        await site.event(FillEnded)
    assert tracebacks(logs) == [BUG]


async def test_a_defect_while_progress_is_recorded_is_logged(
    make_site: MakeSite, source: ScriptedSource
) -> None:
    site = await make_site(limits=Limits(record_bytes=1, proof_seconds=0.0))
    site.store.failures["record"] = BUG
    before_the_end = source.gate(SIZE - 1)
    with capture_logs() as logs:
        reading = asyncio.create_task(site.read(source))
        await before_the_end.reached.wait()
        while not tracebacks(logs):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        site.store.failures.clear()
        before_the_end.open()
        assert await reading == source.data
    assert tracebacks(logs)


async def test_a_defect_of_the_connection_that_lost_is_logged(
    site: Site, source: ScriptedSource
) -> None:
    """Two are asked for the same bytes; the one that is given up fails while it is closed."""
    stall = source.stall(SIZE // 2)
    stall.failure = BUG
    fresh = source.gate(SIZE // 2)
    with capture_logs() as logs:
        reading = asyncio.create_task(site.read(source))
        await asyncio.gather(stall.reached.wait(), fresh.reached.wait())
        stall.open()
        fresh.open()
        outcome = (await asyncio.gather(reading, return_exceptions=True))[0]
    assert outcome == source.data or isinstance(outcome, Defect)
    assert tracebacks(logs) == [BUG]


async def test_a_defect_while_a_blob_is_opened_costs_a_fill(
    site: Site, source: ScriptedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.read(source)
    await site.event(FillEnded)
    site.cache._index.close_idle(source.expected.key)

    def broken(_key: str) -> None:
        raise BUG

    monkeypatch.setattr(site.store, "open", broken)
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            assert await site.read(source) == source.data
    assert len(tracebacks(logs)) == 1


async def test_what_is_expected_leaves_no_traceback(site: Site, source: ScriptedSource) -> None:
    source.refusals.append(SourceFailed("busy"))
    site.store.failures["write"] = OSError(28, "No space left on device")
    with capture_logs() as logs:
        assert await site.read(source) == source.data
    assert tracebacks(logs) == []
