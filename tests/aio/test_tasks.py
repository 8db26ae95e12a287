"""Work in the background that fails is logged with its traceback; what is to last goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from omaha_mirror.aio.tasks import in_slices, keep_running, log_failure
from tests.support.logs import Logs


async def test_what_is_to_last_is_begun_again_and_its_failure_logged(
    logs: Logs,
) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise LookupError(f"number {begun}")

    await keep_running(work, "the work", pause=0.0)
    assert begun == 3
    assert [line["work"] for line in logs] == ["the work"] * 2
    assert [line["exception"].splitlines()[-1] for line in logs] == [
        "LookupError: number 1",
        "LookupError: number 2",
    ]


async def test_what_is_to_last_ends_when_it_is_cancelled(logs: Logs) -> None:
    going = asyncio.Event()

    async def work() -> None:
        going.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(keep_running(work, "the work"))
    await going.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert logs == []


async def test_what_was_to_be_done_once_is_logged_when_it_fails(
    logs: Logs,
) -> None:
    async def work() -> None:
        raise LookupError("nothing")

    task = asyncio.create_task(work())
    task.add_done_callback(log_failure)
    await asyncio.wait([task])
    assert [line["log_level"] for line in logs if "Traceback" in line["exception"]] == ["error"]


async def test_others_work_between_two_slices() -> None:
    made: list[int] = []
    seen: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    async def other() -> None:
        while len(made) < 10:
            seen.append(len(made))
            await asyncio.sleep(0)

    working = asyncio.create_task(other())
    assert await in_slices(items(), 4) == made == list(range(10))
    assert seen == [4, 8]
    await working
