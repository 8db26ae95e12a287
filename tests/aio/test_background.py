"""Work in the background that fails is logged with its traceback; what is to last goes on."""

from __future__ import annotations

import asyncio
import logging

import pytest

from omaha_mirror.aio.background import lasting, tell_failure


async def test_what_is_to_last_is_begun_again_and_its_failure_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise LookupError(f"number {begun}")

    await lasting(work, "the work", pause=0.0)
    assert begun == 3
    failures = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in failures if record.exc_info] == [
        "number 1",
        "number 2",
    ]
    assert all("the work" in record.getMessage() for record in failures)


async def test_what_is_to_last_ends_when_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    going = asyncio.Event()

    async def work() -> None:
        going.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting(work, "the work"))
    await going.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not caplog.records


async def test_what_was_to_be_done_once_is_logged_when_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        raise LookupError("nothing")

    task = asyncio.create_task(work())
    task.add_done_callback(tell_failure)
    await asyncio.wait([task])
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
