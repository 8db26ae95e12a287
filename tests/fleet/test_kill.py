"""A recorder that is killed at any instant loses what came since its last finished batch was begun, and no batch by half."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from omaha_mirror.fleet import BoundedQueue, Database, FleetReader, FleetRecorder, MachineQuery
from omaha_mirror.fleet.backlog import Waiting
from omaha_mirror.fleet.recorder import BATCH
from tests.fleet.scene import machine

KILLS = 2
BATCHES = 4
"""Begun before the first kill; one more before each other."""


class Told(BoundedQueue):
    """Tells of each batch that is begun: all batches before it are written."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.came = self.begun = first

    def take(self, count: int) -> list[Waiting]:
        batch = super().take(count)
        if batch:
            self.begun += len(batch)
            print(self.came, self.begun, flush=True)  # noqa: T201 (the test reads it)
        return batch


async def record_until_killed(url: str, first: int) -> None:
    """Let machines come without an end, a thousand a second."""
    backlog = Told(first)
    recorder = FleetRecorder(Database(url), interval=0.02, backlog=backlog)
    recorder.start()
    for n in count(first):
        backlog.came += 1
        recorder.put(machine(n))
        await asyncio.sleep(0.001)


async def test_a_kill_loses_what_came_since_the_last_finished_batch_was_begun(url: str) -> None:
    known = 0
    for kill in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, url, str(known)),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            lines = [await process.stdout.readline() for _ in range(BATCHES + kill)]
        process.kill()
        lines += (await process.stdout.read()).splitlines()
        await process.wait()
        batches = [tuple(map(int, line.split())) for line in lines]
        for (_, before), (came, begun) in zip([(known, known), *batches], batches, strict=False):
            assert begun in (came, before + BATCH), "a batch is all that waits, or a whole one"
        finished, unfinished = batches[-2][1], batches[-1][1]

        database = Database(url)
        reader = FleetReader(database)
        known = (await reader.machines(MachineQuery())).total
        assert known in (finished, unfinished)
        assert await reader.machine(machine(known - 1).machineid) is not None
        await database.close()


if __name__ == "__main__":
    asyncio.run(record_until_killed(sys.argv[1], int(sys.argv[2])))
