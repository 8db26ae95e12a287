"""A site of 50,000 machines."""

from dataclasses import replace

import pytest

from omaha_mirror.fleet import Backlog, Database, FleetReader, FleetRecorder, MachineQuery, State
from omaha_mirror.fleet.backlog import MAX_BYTES
from tests.fleet.scene import event, machine

MACHINES = 50_000


@pytest.mark.long
async def test_a_large_fleet_is_recorded_whole_and_found_again(database: Database) -> None:
    backlog = Backlog()
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
