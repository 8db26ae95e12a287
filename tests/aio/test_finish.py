"""Work that its caller cannot cut short."""

import asyncio
import threading

import pytest

from omaha_mirror.aio.tasks import finish, in_worker


async def test_the_result_and_the_error_of_the_work_come_through() -> None:
    assert await in_worker(pow, 2, 5) == 32
    with pytest.raises(ValueError, match="invalid literal"):
        await in_worker(int, "x")


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_leaves_only_when_the_work_has_ended(
    times: int, fails: bool
) -> None:
    reached, passable, ended = asyncio.Event(), asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        reached.set()
        await passable.wait()
        ended = True
        if fails:
            raise OSError("full")

    caller = asyncio.create_task(finish(work()))
    await reached.wait()
    for _ in range(times):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    passable.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended


async def test_a_worker_thread_is_not_left_behind() -> None:
    loop, reached, passable = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        loop.call_soon_threadsafe(reached.set)
        ended.append(passable.wait(30))

    caller = asyncio.create_task(in_worker(work))
    await reached.wait()
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    passable.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]
