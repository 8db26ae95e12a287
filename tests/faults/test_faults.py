"""Whatever the upstream does, no client takes bad bytes for good, and what can be delivered is."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.faults.lab import Labs, released
from tests.faults.table import ROWS, SIZE, STATES, Row, State
from tests.support.talk import dial, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = {
    ("drop once", "filling"),
    ("drop five times", "cold"),
    ("stall of one connection", "cold"),
    ("last byte flipped", "filling"),
    ("a byte in the middle flipped", "cold"),
    ("206 with another range", "cold"),
    ("replaced", "filling"),
    ("replaced", "full"),
    ("503 with Retry-After, then well", "cold"),
    ("labelled Content-Encoding: gzip", "cold"),
    ("no sendfile", "full"),
    ("blob truncated on disk", "full"),
    ("a bit of the blob flipped on disk", "full"),
}
"""What every test run covers."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def labs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Labs]:
    """Mirrors with the settings that the rows need."""
    async with AsyncExitStack() as stack:
        yield Labs(lambda: tmp_path_factory.mktemp("lab"), stack)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        pytest.param(
            row,
            state,
            id=f"{row.name} {state}".replace(", ", "-").replace(" ", "-"),
            marks=() if (row.name, state) in QUICK else pytest.mark.long,
        )
        for row in ROWS
        for state in STATES
    ],
)
async def test_fault(labs: Labs, row: Row, state: State) -> None:
    ran = await (await labs.of(row)).run(row, state)
    broken = {f"{r.count} {r.kind}": r.broken(row, state) for r in ran}
    assert not {cell: found for cell, found in broken.items() if found}


async def test_a_slow_first_client_holds_nobody_back(labs: Labs) -> None:
    at = await labs.of(Row(name="a slow client"))
    cell = await at.new()
    machine = at.machine(cell.path, cell.body)
    async with dial(machine.address, buffer=4096) as slow:
        await slow.send(request("GET", cell.path))
        assert (await slow.head()).status == 200
        # It reads no further until all the others have the whole: slower than any line.
        for _ in range(10):
            assert (await machine.whole()).word == "ok"
        assert await slow.read(SIZE) == cell.body


@pytest.mark.long
@pytest.mark.timeout(900)  # each of the mirrors stops and starts
async def test_a_restart_brings_nothing_wrong_back(labs: Labs) -> None:
    for made in labs.made.values():
        assert await made.mirror.terminate() == 0
        assert not [line for line in made.mirror.log if "Traceback" in line]
        assert not made.partial()
        for blob in made.stored():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        await made.start()
        for path, held, body in made.resume_unsafe:
            assert (await made.machine(path, body).tail(held)).word == "status 416"
        for number in range(made.releases):
            path, body = released(number)
            made.publish(path, body)
            assert (await made.machine(path, body).whole()).word == "ok"
            made.upstream.remove(path)
