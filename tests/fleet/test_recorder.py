"""Recording never waits and never fails, whatever the database does; what it holds is bounded, and written in the end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import event as hooks
from sqlalchemy import text
from structlog.types import EventDict

from omaha_mirror.aio.clock import Clock
from omaha_mirror.fleet import (
    BoundedQueue,
    Database,
    FleetReader,
    FleetRecorder,
    MachineQuery,
    store,
)
from omaha_mirror.fleet.model import Item
from omaha_mirror.fleet.recorder import BATCH
from tests.fleet.scene import ASK, GOT, OFFERED, event, machine
from tests.support.clock import StoppedClock
from tests.support.logs import Logs

PATIENCE = 20.0


async def count(database: Database) -> int:
    return (await FleetReader(database).machines(MachineQuery())).total


async def rename(database: Database, old: str, new: str) -> None:
    """Make the database fail with a missing table, or mend it."""
    async with database.engine.begin() as connection:
        await connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


async def until(happened: Callable[[], bool]) -> None:
    """Wait for something that the recorder logs."""
    rung = asyncio.Event()

    def ring(_: object, __: str, line: EventDict) -> EventDict:
        rung.set()
        return line

    processors = structlog.get_config()["processors"]
    processors.insert(0, ring)
    try:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                rung.clear()
                await rung.wait()
                await asyncio.sleep(0)
    finally:
        processors.remove(ring)


async def until_trouble(recorder: FleetRecorder) -> str:
    await until(lambda: recorder.trouble is not None)
    assert recorder.trouble is not None
    return recorder.trouble


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[FleetRecorder]:
    """One that gathers for no time and has begun."""
    recorder = FleetRecorder(database, interval=0, retry=0.01)
    recorder.start()
    yield recorder
    await recorder.close()


async def test_what_is_put_before_the_start_is_written_after_it(url: str) -> None:
    database = Database(url)
    recorder = FleetRecorder(database, interval=0)
    recorder.put(ASK)
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert await count(database) == 1
    await recorder.close()
    await database.close()


async def test_more_than_one_batch_is_written_in_order(
    recorder: FleetRecorder, database: Database
) -> None:
    for n in range(3 * BATCH):
        recorder.put(replace(ASK, version=str(n), machineid="one"))
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    history = await FleetReader(database).machine("one")
    assert history is not None
    assert history.machine.version == str(3 * BATCH - 1)
    assert history.machine.stretches == 3 * BATCH
    assert (recorder.queued, recorder.dropped) == (0, 0)


async def test_a_whole_batch_does_not_wait_for_more(database: Database) -> None:
    """The interval outlasts the test."""
    recorder = FleetRecorder(database, interval=3600)
    recorder.put(ASK)
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
        for n in range(BATCH):
            recorder.put(machine(n))
            await asyncio.sleep(0)
        await recorder.flush()
    assert await count(database) == BATCH + 1
    await recorder.close()


async def test_news_gathers_to_a_batch(database: Database) -> None:
    """The interval outlasts the test: only closing ends it."""
    upkeep = asyncio.Event()

    def wall() -> float:
        upkeep.set()
        return ASK.time

    clock = Clock(wall=wall, boottime=lambda: 0.0, synchronised=lambda: True)
    upkeep.clear()
    recorder = FleetRecorder(database, interval=3600, clock=clock)
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await upkeep.wait()
    for n in range(10):
        recorder.put(machine(n))
        await asyncio.sleep(0)
    assert recorder.queued == 10
    await recorder.close()
    assert (recorder.queued, recorder.dropped, await count(database)) == (0, 0, 10)


async def test_news_that_comes_during_a_write_gathers_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a fleet that never rests is written item by item. The interval outlasts the test."""
    recorder = FleetRecorder(database, interval=3600)
    batches: list[int] = []
    partial = asyncio.Event()

    async def write(database: Database, items: list[Item]) -> None:
        batches.append(len(items))
        if len(batches) < 4:
            recorder.put(machine(len(batches)))
        if len(items) < BATCH:
            partial.set()

    monkeypatch.setattr("omaha_mirror.fleet.recorder.write", write)
    for n in range(BATCH + 1):
        recorder.put(machine(n))
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await partial.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert (batches, recorder.queued) == ([BATCH, 2], 1)
    await recorder.close()
    assert sum(batches) == BATCH + 1 + 3


async def test_a_failing_database_delays_nothing_and_loses_nothing(
    recorder: FleetRecorder, database: Database, logs: Logs
) -> None:
    await recorder.flush()
    recorder.put(ASK)
    await recorder.flush()
    await rename(database, "machines", "away")
    for n in range(BATCH + 10):
        recorder.put(machine(n))
    why = await until_trouble(recorder)
    assert "machines" in why
    recorder.put(event(13, 1))
    await rename(database, "away", "machines")
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    await until(lambda: recorder.trouble is None)
    assert await count(database) == BATCH + 11
    assert (recorder.queued, recorder.dropped) == (0, 0)
    lines = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert len(lines) == 2, "once when it begins, once when it ends"
    assert "works again" in lines[1]


async def test_trouble_that_lasts_is_logged_once(database: Database, logs: Logs) -> None:
    """News can be written, but the census cannot."""
    await rename(database, "census", "away")
    loop, thrice = asyncio.get_running_loop(), asyncio.Event()
    failures: list[object] = []

    def failed(connection: object) -> None:
        failures.append(connection)
        if len(failures) == 3:
            loop.call_soon_threadsafe(thrice.set)

    hooks.listen(database.writer, "rollback", failed)
    recorder = FleetRecorder(database, interval=0, retry=0.01, clock=StoppedClock(ASK.time))
    recorder.put(ASK)
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await thrice.wait()
    await recorder.close()
    assert [line["event"].split()[-1] for line in logs] == ["memory"]
    assert await count(database) == 1


async def test_a_failing_database_keeps_the_queue_within_its_bounds(database: Database) -> None:
    await rename(database, "machines", "away")
    recorder = FleetRecorder(database, interval=0, retry=0.01, backlog=BoundedQueue(max_items=5))
    recorder.put(OFFERED)
    for n in range(20):
        recorder.put(machine(n))
    recorder.start()
    await until_trouble(recorder)
    assert recorder.queued <= 5
    await rename(database, "away", "machines")
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert recorder.dropped == 16
    assert await count(database) == 5
    assert await FleetReader(database).count_by("state") == {"complete": 4, "granted": 1}
    await recorder.close()


async def test_a_database_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    database = Database(f"sqlite:///{folder}/fleet.db")
    recorder = FleetRecorder(database, interval=0, retry=0.01)
    recorder.start()
    recorder.put(ASK)
    assert "unable to open" in await until_trouble(recorder)
    folder.mkdir()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert await count(database) == 1
    await recorder.close()
    await database.close()


async def test_a_lock_held_by_somebody_else_is_waited_out(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    database = Database(f"sqlite:///{path}", timeout=0.05)
    await database.migrate()
    recorder = FleetRecorder(database, interval=0, retry=0.01)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder.start()
        recorder.put(ASK)
        assert "locked" in await until_trouble(recorder)
        other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert await count(database) == 1
    await recorder.close()
    await database.close()


async def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    database = Database(f"sqlite:///{path}")
    await database.migrate()
    room = {"pages": 1}

    @hooks.listens_for(database.writer, "checkout")
    def limit(connection: Any, *_: object) -> None:
        connection.cursor().execute(f"PRAGMA max_page_count = {room['pages']}")

    recorder = FleetRecorder(database, interval=0, retry=0.01)
    recorder.start()
    for n in range(BATCH):
        recorder.put(machine(n))
    assert "full" in await until_trouble(recorder)
    room["pages"] = 1_000_000
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert (await count(database), recorder.dropped) == (BATCH, 0)
    await recorder.close()
    await database.close()


async def test_items_that_no_database_can_hold_block_nothing(
    recorder: FleetRecorder, database: Database, logs: Logs
) -> None:
    wrong: Any = None
    recorder.put(replace(ASK, time=wrong))
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    recorder.put(ASK)
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    assert (await count(database), recorder.sent, recorder.refused) == (1, 1, 1)
    assert logs[-1]["items"] == 1
    assert "Traceback" in logs[-1]["exception"]


async def test_an_item_that_no_database_can_hold_costs_no_other_of_its_batch(
    database: Database, logs: Logs
) -> None:
    """SQLite would store a text, but no null; PostgreSQL refuses each with an error of another kind."""
    wrong: Any = None if database.writer.dialect.name == "sqlite" else "no time"
    recorder = FleetRecorder(database, interval=0, clock=StoppedClock(ASK.time))
    for n in range(BATCH):
        recorder.put(replace(machine(n), time=wrong) if n in (0, 77, BATCH - 1) else machine(n))
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    await recorder.close()
    assert (await count(database), recorder.sent) == (BATCH - 3, BATCH - 3)
    assert (recorder.refused, recorder.queued, recorder.dropped) == (3, 0, 0)
    assert [line["items"] for line in logs] == [3]


async def test_of_a_batch_with_such_an_item_nothing_is_lost_when_the_database_fails_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each other write fails once; the items are in the order of arrival again."""
    wrong: Any = None
    writes: list[int] = []

    async def write(database: Database, items: list[Item]) -> None:
        writes.append(len(items))
        if len(writes) in (3, 5):
            raise OSError("the line is down")
        await store.write(database, items)

    monkeypatch.setattr("omaha_mirror.fleet.recorder.write", write)
    recorder = FleetRecorder(database, interval=0, retry=0.01, clock=StoppedClock(ASK.time))
    for n in range(20):
        item = replace(ASK, machineid="one", version=str(n))
        recorder.put(replace(item, time=wrong) if n == 13 else item)
    recorder.start()
    async with asyncio.timeout(PATIENCE):
        await recorder.flush()
    await recorder.close()
    history = await FleetReader(database).machine("one")
    assert history is not None
    assert (history.machine.version, history.machine.stretches) == ("19", 19)
    assert (recorder.sent, recorder.refused, recorder.dropped) == (19, 1, 0)


async def test_a_defect_leaves_its_traceback_and_a_neutral_line(
    recorder: FleetRecorder, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    with monkeypatch.context() as defect:
        defect.setattr("omaha_mirror.fleet.recorder.bound", broken)
        recorder.put(ASK)
        recorder._kept_up = float("-inf")
        trouble = await until_trouble(recorder)
    assert "details" not in trouble
    assert "LookupError: details" in logs[-1]["exception"]
    await until(lambda: recorder.trouble is None)


async def broken(_: object) -> None:
    raise LookupError("details")


async def test_closing_writes_what_waits(database: Database) -> None:
    recorder = FleetRecorder(database, interval=3600)
    recorder.start()
    for n in range(BATCH + 1):
        recorder.put(machine(n))
    async with asyncio.timeout(PATIENCE):
        await recorder.close(deadline=3600)
    assert (await count(database), recorder.dropped) == (BATCH + 1, 0)


async def test_closing_has_a_deadline_and_counts_what_is_lost(
    database: Database, logs: Logs
) -> None:
    await rename(database, "machines", "away")
    recorder = FleetRecorder(database, interval=0, retry=0.01)
    recorder.start()
    recorder.put(ASK)
    recorder.put(GOT)
    async with asyncio.timeout(PATIENCE):
        await recorder.close(deadline=0.1)
    assert (recorder.queued, recorder.dropped) == (0, 2)
    assert logs[-1]["items"] == 2


async def test_closing_without_news_does_not_wait_for_a_failing_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/fleet.db")
    recorder = FleetRecorder(database, retry=3600)
    recorder.start()
    await until_trouble(recorder)
    async with asyncio.timeout(PATIENCE):
        await recorder.close(deadline=3600)


async def test_a_closing_that_is_cancelled_leaves_no_task(database: Database) -> None:
    await rename(database, "machines", "away")
    before = asyncio.all_tasks()
    recorder = FleetRecorder(database, interval=0, retry=3600)
    recorder.start()
    recorder.put(ASK)
    await until_trouble(recorder)
    closing = asyncio.create_task(recorder.close(deadline=3600))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert asyncio.all_tasks() == before
    assert recorder.queued == 1, "the batch came back"


async def test_upkeep_happens_without_news(database: Database) -> None:
    recorder = FleetRecorder(database, interval=0, clock=StoppedClock(ASK.time))
    recorder.put(ASK)
    recorder.start()
    await recorder.close()
    [census] = await FleetReader(database).census("version", 0)
    assert census.machines == {"3815.2.0": 1}
