"""Thousands of machines on one mirror: all are answered and remembered, whoever looks at it meanwhile, and after a crash."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import median

import pytest

from omaha_mirror.cache.lock import in_use
from omaha_mirror.client.simulated import Fleet, Plan, State
from omaha_mirror.config import Address
from omaha_mirror.fleet.recorder import BATCH
from tests.support.mirror import VERSION, MirrorProcess
from tests.support.talk import PATIENCE, ask
from tests.support.upstream import Upstream

OLD = "3510.2.0"
MACHINES = 5000
OVER = 20.0
LOOKED_AT = ("/readyz", "/api/v1/tracks", "/api/v1/machines?search=simulated-499")
QUICK = 0.1
"""Seconds that a look takes in the middle; single ones may meet a busy machine."""
MEMORY = 96 * 1024 * 1024
"""Bytes that a fleet may add to the mirror's, at most."""


def plan(process: MirrorProcess, machines: int, over: float) -> Plan:
    return Plan(
        server=f"http://{process.address}/v1/update/",
        machines=machines,
        over=over,
        track="stable",
        versions={OLD: 2, VERSION: 8},
        oems={"": 1},
        errors=0.05,
        download="first",
    )


@contextmanager
def database(site: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(site / "state" / "fleet.db")) as connection:
        yield connection


def known(site: Path) -> dict[str, int]:
    """Machines by state; none before there are tables."""
    with database(site) as connection, suppress(sqlite3.OperationalError):
        return dict(connection.execute("SELECT state, count(*) FROM machines GROUP BY state"))
    return {}


def memory(process: MirrorProcess) -> int:
    """Bytes that the mirror has resident."""
    lines = Path(f"/proc/{process._process.pid}/status").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(kib) * 1024


async def look(site: Path) -> list[float]:
    """Ask the admin listener all that is looked at; the seconds that each took."""
    found = in_use(site / "cache")
    assert found is not None
    assert found.holder is not None
    assert found.holder.admin is not None
    took = []
    for path in LOOKED_AT:
        began = time.monotonic()
        address = Address.parse(found.holder.admin)
        answer = await ask(address, "GET", path, {"Host": found.holder.admin})
        assert answer.status == 200, answer.body
        took.append(time.monotonic() - began)
    return took


@pytest.mark.long
async def test_a_large_fleet_is_answered_and_remembered_while_it_is_looked_at(
    release: Upstream, process: MirrorProcess, tmp_path: Path
) -> None:
    before = memory(process)
    fleet = Fleet(plan(process, MACHINES, OVER))
    running = asyncio.create_task(fleet.run())
    looks: list[float] = []
    most = 0
    while not (await asyncio.wait({running}, timeout=0.5))[0]:
        looks += await look(tmp_path)
        most = max(most, memory(process))
    await running
    states = fleet.tally.states
    assert not fleet.tally.errors
    assert states.total() == MACHINES
    assert states[State.UPDATED] > states[State.FAILED] > 0
    assert fleet.tally.downloads == 1
    assert median(looks) < QUICK
    assert most - before < MEMORY
    failed = {"error": states[State.FAILED], "granted": states[State.ROLLED_BACK]}
    expected = {**failed, "complete": MACHINES - sum(failed.values())}
    async with asyncio.timeout(PATIENCE):
        while known(tmp_path) != expected:  # noqa: ASYNC110 (another process writes)
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_crash_amid_a_fleet_costs_what_waited_and_no_more(
    release: Upstream, tmp_path: Path
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as process:
        fleet = Fleet(plan(process, 10_000, 100.0))
        running = asyncio.create_task(fleet.run())
        async with asyncio.timeout(PATIENCE):
            while not fleet.tally.latencies.count:  # noqa: ASYNC110 (the fleet has no event for it)
                await asyncio.sleep(0.01)
            while (written := sum(known(tmp_path).values())) < BATCH:  # noqa: ASYNC110 (another process writes)
                await asyncio.sleep(0.05)
        answered = fleet.tally.machines - fleet.tally.states[State.UNDER_WAY]
        await process.kill()
        running.cancel()
        await asyncio.wait({running})
    with database(tmp_path) as connection:
        assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
    kept = sum(known(tmp_path).values())
    assert kept >= written
    # Of each machine there are two things to write. A batch may be under way while as many wait.
    assert kept >= answered - BATCH
    async with MirrorProcess(tmp_path, release.origin) as process:
        await look(tmp_path)
        again = Fleet(plan(process, 10, 0.0))
        await again.run()
        assert not again.tally.errors
        await process.terminate()
    assert sum(known(tmp_path).values()) >= kept
