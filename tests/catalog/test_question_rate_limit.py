"""Turns: so many at once, then one each so often, and for whom."""

import asyncio

from omaha_mirror.catalog.question_rate_limit import Turns, surplus
from tests.support.clock import StoppedClock

EVERY = 10.0


class Slept(StoppedClock):
    """Time passes while somebody sleeps."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds


async def test_turns_come_at_once_and_then_one_each_so_often() -> None:
    clock = Slept()
    turns = Turns(clock, at_once=3, every=EVERY)
    began = clock.now
    for expected in (0.0, 0.0, 0.0, EVERY, 2 * EVERY):
        await turns.take("10.0.0.1")
        assert clock.now - began - expected < 0.1
    assert turns.scarce
    clock.now += 100 * EVERY
    assert [turns.free() for _ in range(4)] == [True, True, True, False]
    await turns.close()


async def test_who_waits_for_least_comes_first_and_of_its_own_the_newest() -> None:
    turns = Turns(Slept(), at_once=1, every=EVERY)
    given: list[str] = []

    async def take(name: str, client: str) -> None:
        await turns.take(client)
        given.append(name)

    assert turns.free()
    named = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("a4", "a")]
    waiting = [asyncio.create_task(take(*each)) for each in named]
    await asyncio.gather(*waiting)
    assert given == ["b1", "a4", "a3", "a2", "a1"]
    await turns.close()


async def test_who_leaves_takes_no_turn() -> None:
    turns = Turns(Slept(), at_once=1, every=EVERY)
    assert turns.free()
    gone, stays = (asyncio.create_task(turns.take(client)) for client in ("a", "b"))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    await turns.close()


def test_room_is_made_by_the_oldest_of_who_has_most() -> None:
    assert surplus({1: "a", 2: "b", 3: "b", 4: "a", 5: "b"}) == 2
    assert surplus({1: "a", 2: "b"}) == 1
