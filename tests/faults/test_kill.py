"""A mirror that is killed at any instant of a fill or a commit goes on as if nothing had been."""

import asyncio
import hashlib
from pathlib import Path
from random import Random

import pytest

from tests.faults.lab import Lab, lab

KILLS = 200
SIDE_BY_SIDE = 2
SIZE = 10 * 1024 * 1024
LINE = 25_000_000
"""Bytes a second."""
RECORDED = 4 * 1024 * 1024
"""Bytes of fetching that a crash may lose."""
ON_THE_WAY = 3 * 1024 * 1024
"""What may be in buffers, and come in while progress is being recorded."""
COMMIT = 0.03
"""Seconds after the last byte from upstream in which a package is proven and gets its name."""


async def kill_once(made: Lab, rng: Random) -> None:
    """Kill the mirror somewhere in a fill, start it again, and download."""
    cell = await made.new(size=SIZE)
    machine = made.machine(cell.path, cell.body)
    client = asyncio.create_task(machine.whole())
    offset = min(SIZE, rng.randrange(SIZE * 4 // 3))
    await made.upstream.until(lambda: made.upstream.bytes_sent(cell.path) >= offset)
    if offset == SIZE:
        await asyncio.sleep(rng.uniform(0, COMMIT))
    await made.mirror.kill()
    assert not (await client).broken
    await made.start()
    assert (await made.machine(cell.path, cell.body).whole()).word == "ok"
    assert made.upstream.bytes_sent(cell.path) <= SIZE + RECORDED + ON_THE_WAY
    made.withdraw(cell)


async def nothing_is_left(made: Lab) -> None:
    """What the last mirror has on disk is one proven blob for each release, and no more."""
    assert await made.mirror.terminate() == 0
    assert not made.partial()
    assert len(made.stored()) == made.releases
    for blob in made.stored():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_kill_at_any_instant_spoils_nothing(tmp_path: Path) -> None:
    async def chain(number: int) -> None:
        rng = Random(number)
        directory = tmp_path / str(number)
        directory.mkdir()
        async with lab(directory) as made:
            made.upstream.throttle(LINE)
            for _ in range(KILLS // SIDE_BY_SIDE):
                await kill_once(made, rng)
            await nothing_is_left(made)

    async with asyncio.TaskGroup() as group:
        for number in range(SIDE_BY_SIDE):
            group.create_task(chain(number))
