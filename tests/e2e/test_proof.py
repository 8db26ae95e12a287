"""An upstream that sends wrong bytes in the midst of a package: the mirror mends them, and no machine notices."""

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest

from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Span
from tests.cache.payloads import operations, pieces, signed
from tests.faults.clients import Machine, Outcome
from tests.support.mirror import PAYLOAD_PATH, MirrorProcess
from tests.support.upstream import Corrupt, Upstream

OPERATION = 100_000
BODY = signed(pieces(40, OPERATION))
SIZE = len(BODY)
OPERATIONS = operations(BODY)
HALF = OPERATIONS[20][0] + 50_000


@pytest.fixture
def wrong(upstream: Upstream) -> list[Span]:
    """The ten operations of the release in which one byte is wrong the first time."""
    rng = Random(11)
    upstream.put(PAYLOAD_PATH, BODY)
    spans = sorted([OPERATIONS[20], *rng.sample(OPERATIONS[:20] + OPERATIONS[21:], 9)])
    for start, stop in spans:
        at = start if start == OPERATIONS[20][0] else rng.randrange(start, stop)
        upstream.fault(PAYLOAD_PATH, Corrupt(times=1, at=at))
    return spans


def machines(mirror: MirrorProcess, path: str) -> list[Coroutine[Any, Any, Outcome]]:
    """Four that want the whole, two that go on after a reboot, two that want the end, and two in the middle."""
    machine = Machine(mirror.address, path, BODY)
    return [
        *(machine.whole() for _ in range(4)),
        machine.after_reboot(SIZE // 5),
        machine.after_reboot(4 * SIZE // 5),
        machine.tail(SIZE // 2),
        machine.suffix(100_000),
        machine.bounded(SIZE // 3, SIZE // 2),
        machine.bounded(9, SIZE - 9),
    ]


def fetched_again(upstream: Upstream, spans: list[Span]) -> bool:
    """Whether each of `spans` was sent, to its end, to a connection that asked for that part alone."""
    parts = [entry for entry in upstream.requests(PAYLOAD_PATH, "GET") if entry.whole]
    asked = Intervals(
        (int(first), int(last) + 1)
        for part in parts
        for first, last in re.findall(r"bytes=(\d+)-(\d+)", part.range or "")
    )
    return all(asked.run_end(start) >= stop for start, stop in spans)


async def test_ten_machines_get_right_bytes_and_only_the_wrong_operations_are_fetched_twice(
    upstream: Upstream, wrong: list[Span], tmp_path: Path
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        path = await mirror.payload()
        ended = await asyncio.gather(*machines(mirror, path))
        assert [outcome.word for outcome in ended] == ["ok"] * 10
        ended_line = await mirror.logged("fill ended")
    [fetched] = re.findall(r"fetched[\W]+(\d+)", ended_line)
    assert int(fetched) == SIZE + 10 * OPERATION


async def test_a_crash_in_the_midst_of_it_costs_nobody_more_than_a_try(
    upstream: Upstream, wrong: list[Span], tmp_path: Path
) -> None:
    """The crash strikes when an operation is half there, a wrong byte in it."""
    gate = upstream.hold(PAYLOAD_PATH, at=HALF)
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        path = await mirror.payload()
        whole = asyncio.create_task(Machine(mirror.address, path, BODY).whole())
        await gate.reached()
        await upstream.until(lambda: fetched_again(upstream, [w for w in wrong if w[1] <= HALF]))
        await mirror.kill()
        assert (await whole).right
    gate.open()
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        ended = await asyncio.gather(*machines(mirror, path))
        assert [outcome.word for outcome in ended] == ["ok"] * 10
        held = whole.result().held
        assert (await Machine(mirror.address, path, BODY).tail(held)).word == "ok"
        await mirror.logged("fill ended")
