"""A site of 50,000 machines."""

from collections.abc import Awaitable
from dataclasses import replace

import pytest
from sqlalchemy import event as hooks

from omaha_mirror.fleet import (
    BoundedQueue,
    Database,
    FleetReader,
    FleetRecorder,
    MachineQuery,
    State,
)
from omaha_mirror.fleet.backlog import MAX_BYTES
from tests.fleet.scene import Site, event, machine

MACHINES = 50_000


@pytest.mark.long
async def test_a_large_fleet_is_recorded_whole_and_found_again(database: Database) -> None:
    backlog = BoundedQueue()
    recorder = FleetRecorder(database, interval=0, backlog=backlog)
    recorder.start()
    for n in range(MACHINES):
        recorder.put(replace(machine(n), version=f"3815.2.{n % 7}"))
        assert backlog.bytes < MAX_BYTES
        if n % 1000 == 0:
            recorder.put(event(3, 0, 9, asked=machine(n)))
            await recorder.flush()
    await recorder.close(deadline=60)
    assert recorder.dropped == 0

    reader = FleetReader(database)
    for query, total in (
        (MachineQuery(), MACHINES),
        (MachineQuery(search="node-4999"), 11),
        (MachineQuery(sort="version", page=900), MACHINES),
        (MachineQuery(state=State.ERROR, sort="alias"), MACHINES // 1000),
    ):
        assert (await reader.machines(query)).total == total
    assert sum((await reader.count_by("version")).values()) == MACHINES
    assert (await reader.machine(machine(1).machineid)) is not None
    assert len(await reader.recent_errors()) == MACHINES // 1000


async def plan(site: Site, question: Awaitable[object]) -> list[str]:
    """How SQLite finds the answer, step by step."""
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(
        _: object, __: object, statement: str, values: tuple[object, ...], *___: object
    ) -> None:
        asked.append((statement, values))

    engine = site.database.engine
    hooks.listen(engine.sync_engine, "before_cursor_execute", note)
    await question
    hooks.remove(engine.sync_engine, "before_cursor_execute", note)
    steps: list[str] = []
    async with engine.connect() as connection:
        for statement, values in asked:
            explained = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps += [step.detail for step in explained]
    return steps


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_machines_are_counted_without_sorting_them(site: Site) -> None:
    for question in (
        site.reader.count_by("state", seen_since=1.0),
        site.reader.counts("version", "board", seen_since=1.0),
    ):
        steps = await plan(site, question)
        assert "SCAN machines USING COVERING INDEX machines_counts" in steps
        assert "USE TEMP B-TREE FOR GROUP BY" not in steps


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_the_last_machines_are_found_without_looking_at_others(site: Site) -> None:
    await site.write(machine(1))
    steps = await plan(site, site.reader.machines(MachineQuery()))
    assert "SCAN latest USING COVERING INDEX latest_last_seen" in steps
    assert "SCAN machines" not in steps


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_search_looks_through_an_index_alone(site: Site) -> None:
    await site.write(machine(1))
    steps = await plan(site, site.reader.machines(MachineQuery(search="node")))
    assert "SCAN machines USING COVERING INDEX machines_search" in steps
    assert "SCAN machines" not in steps


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_machine_is_found_by_its_id_through_an_index(site: Site) -> None:
    steps = await plan(site, site.reader.machine(machine(1).machineid))
    assert "SEARCH machines USING INDEX machines_search (machineid=?)" in steps
