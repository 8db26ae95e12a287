"""One timer for many deadlines."""

import asyncio

from omaha_mirror.web import fairness
from omaha_mirror.web.fairness import Deadlines
from tests.support.talk import PATIENCE


async def test_all_that_is_not_cancelled_ends_in_its_order() -> None:
    ended: list[int] = []
    waiting = Deadlines[int](0.05, ended.append)
    count = 5 * fairness.ENDED
    for number in range(count):
        waiting.start(number)
    waiting.cancel(3)
    waiting.cancel(3)
    waiting.start(5)
    async with asyncio.timeout(PATIENCE):
        await waiting.none.wait()
    assert ended == [*(n for n in range(count) if n not in (3, 5)), 5]
    waiting.start(7)
    assert not waiting.none.is_set()
    async with asyncio.timeout(PATIENCE):
        await waiting.none.wait()
    assert ended[-1] == 7


async def test_nobody_is_ended_after_the_end() -> None:
    ended: list[int] = []
    waiting = Deadlines[int](0.01, ended.append)
    waiting.start(1)
    waiting.close()
    other = Deadlines[int](0.05, ended.append)
    other.start(2)
    async with asyncio.timeout(PATIENCE):
        await other.none.wait()
    assert ended == [2]
