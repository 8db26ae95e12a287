"""A recorder that is killed at any instant loses what waited, at most, and no batch by half."""

import asyncio
import sys
from pathlib import Path

from omaha_mirror.fleet import Database, FleetReader, FleetRecorder, MachineQuery
from tests.fleet.scene import ASK, machine

CHUNK = 50
KILLS = 2


async def record_until_killed(url: str, start: int) -> None:
    """Put chunk after chunk, and tell when each is written."""
    recorder = FleetRecorder(Database(url), interval=0)
    recorder.start()
    while True:
        for n in range(start, start + CHUNK):
            recorder.put(machine(n))
        await recorder.flush()
        start += CHUNK
        print(start, flush=True)  # noqa: T201


async def test_what_was_written_survives_a_kill_and_no_batch_is_there_by_half(url: str) -> None:
    written = 0
    for kill in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, url, str(written)),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        for _ in range(kill + 1):
            async with asyncio.timeout(20):
                written = int(await process.stdout.readline())
        process.kill()
        rest = (await process.stdout.read()).split()
        await process.wait()
        written = int(rest[-1]) if rest else written

        database = Database(url)
        reader = FleetReader(database)
        total = (await reader.machines(MachineQuery())).total
        assert total in (written, written + CHUNK)
        written = total
        recorder = FleetRecorder(database, interval=0)
        recorder.start()
        recorder.put(ASK)
        await recorder.flush()
        assert (await reader.machines(MachineQuery(search=ASK.machineid))).total == 1
        assert recorder.trouble is None
        await recorder.close()
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(
                f"DELETE FROM machines WHERE machineid = '{ASK.machineid}'"
            )
        await database.close()


if __name__ == "__main__":
    asyncio.run(record_until_killed(sys.argv[1], int(sys.argv[2])))
