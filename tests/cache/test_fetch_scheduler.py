"""The line is shared: how fast, by how many, and who goes first."""

import asyncio
import os
from collections.abc import Awaitable

import pytest

from omaha_mirror.cache import FetchScheduler
from omaha_mirror.cache.errors import SourceGone
from omaha_mirror.cache.events import FillEnded, FillStarted
from omaha_mirror.cache.fetch_scheduler import BURST_SECONDS, Priority
from tests.cache.conftest import MakeSite
from tests.cache.source import ScriptedSource, random_source

SIZE = 256 * 1024
KB = 1000


def now() -> float:
    return asyncio.get_running_loop().time()


async def turn() -> None:
    """Let everybody go on who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_rate_nobody_waits() -> None:
    line = FetchScheduler()
    for _ in range(1000):
        await asyncio.wait_for(line.take(1 << 40, Priority.REPAIR), 1)


async def test_all_takers_together_keep_to_the_rate() -> None:
    line, began = FetchScheduler(rate=1000 * KB), now()
    await asyncio.gather(*(line.take(10 * KB, priority) for priority in list(Priority) * 10))
    # 300 kB at 1 MB/s: each waits for those before it
    assert now() - began >= 0.29 - BURST_SECONDS


async def test_unused_time_counts_for_a_moment_only() -> None:
    line = FetchScheduler(rate=1000 * KB)
    await line.take(1, Priority.WAITED_FOR)
    await asyncio.sleep(4 * BURST_SECONDS)
    began = now()
    for _ in range(20):
        await line.take(10 * KB, Priority.WAITED_FOR)
    assert now() - began >= 0.19 - BURST_SECONDS


async def test_the_most_urgent_goes_first_and_among_equals_the_first_come() -> None:
    line = FetchScheduler(rate=1000 * KB)
    order: list[str] = []

    async def take(name: str, priority: Priority) -> None:
        await line.take(60 * KB, priority)
        order.append(name)

    await line.take(60 * KB, Priority.REPAIR)
    takers = [
        asyncio.create_task(take(name, priority))
        for name, priority in [
            ("repair", Priority.REPAIR),
            ("prefetch 1", Priority.PREFETCH),
            ("prefetch 2", Priority.PREFETCH),
            ("reader", Priority.WAITED_FOR),
        ]
    ]
    await asyncio.gather(*takers)
    assert order == ["reader", "prefetch 1", "prefetch 2", "repair"]


@pytest.mark.parametrize("rate", [None, 1e12])
async def test_another_rate_holds_for_those_who_wait_already(rate: float | None) -> None:
    line = FetchScheduler(rate=0.001)
    await line.take(10, Priority.WAITED_FOR)
    waiting = [asyncio.create_task(line.take(10, Priority.WAITED_FOR)) for _ in range(3)]
    await turn()
    assert not any(task.done() for task in waiting)
    line.change(rate, 3)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_a_cancelled_taker_costs_nothing() -> None:
    line = FetchScheduler(rate=1000 * KB)
    await line.take(100 * KB, Priority.WAITED_FOR)
    huge = asyncio.create_task(line.take(10**12, Priority.WAITED_FOR))
    after = asyncio.create_task(line.take(KB, Priority.REPAIR))
    await turn()
    huge.cancel()
    await asyncio.wait_for(after, 5)
    with pytest.raises(asyncio.CancelledError):
        await huge


class Fills:
    """Fills that hold a place until they are told to end."""

    def __init__(self, line: FetchScheduler) -> None:
        self.scheduler = line
        self.began: list[str] = []
        self.priorities: dict[str, Priority] = {}
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def _run(self, name: str) -> None:
        async with self.scheduler.fill(name, lambda: self.priorities[name]):
            self.began.append(name)
            await self.ends[name].wait()

    async def add(self, name: str, priority: Priority = Priority.PREFETCH) -> None:
        self.priorities[name], self.ends[name] = priority, asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name))
        await turn()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await turn()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.tasks[name]
        await turn()


@pytest.fixture
async def fills() -> Fills:
    return Fills(FetchScheduler(max_fills=1))


async def test_who_is_waited_for_is_next_whenever_that_began(fills: Fills) -> None:
    for name in ("a", "b", "c", "d"):
        await fills.add(name)
    assert [fills.scheduler.positions().get(name) for name in ("a", "b", "c", "d")] == [
        None,
        1,
        2,
        3,
    ]
    fills.priorities["d"] = Priority.WAITED_FOR
    assert [fills.scheduler.positions().get(name) for name in ("b", "c", "d")] == [2, 3, 1]
    for name in ("a", "d", "b", "c"):
        await fills.end(name)
    assert fills.began == ["a", "d", "b", "c"]
    assert fills.scheduler.positions().get("a") is None


async def test_who_is_waited_for_need_not_wait_for_fills_that_everybody_left(fills: Fills) -> None:
    await fills.add("left", Priority.WAITED_FOR)
    await fills.add("waited for", Priority.WAITED_FOR)
    assert fills.began == ["left"]
    fills.priorities["left"] = Priority.PREFETCH
    fills.scheduler.look_again()
    await turn()
    assert fills.began == ["left", "waited for"]
    await fills.add("one more", Priority.WAITED_FOR)
    assert fills.scheduler.positions().get("one more") == 1
    for name in ("left", "waited for", "one more"):
        await fills.end(name)


async def test_a_cancelled_fill_leaves_its_place_or_the_queue(fills: Fills) -> None:
    for name in ("a", "b", "c"):
        await fills.add(name)
    await fills.cancel("b")
    assert fills.scheduler.positions().get("c") == 1
    await fills.cancel("a")
    assert fills.began == ["a", "c"]
    await fills.end("c")


async def test_a_fill_cancelled_in_the_moment_of_its_admission_takes_no_place(
    fills: Fills,
) -> None:
    for name in ("a", "b", "c"):
        await fills.add(name)
    fills.scheduler.change(None, 2)
    fills.tasks["b"].cancel()
    await turn()
    assert fills.began == ["a", "c"]
    for name in ("a", "c"):
        await fills.end(name)


async def test_more_places_are_taken_at_once_and_fewer_as_fills_end(fills: Fills) -> None:
    for name in ("a", "b", "c", "d"):
        await fills.add(name)
    fills.scheduler.change(None, 3)
    await turn()
    assert fills.began == ["a", "b", "c"]
    fills.scheduler.change(None, 1)
    await fills.end("a")
    await fills.end("b")
    assert fills.began == ["a", "b", "c"]
    await fills.end("c")
    assert fills.began == ["a", "b", "c", "d"]
    await fills.end("d")


def sources(count: int) -> list[ScriptedSource]:
    return [random_source(SIZE) for _ in range(count)]


async def test_a_cache_fetches_no_more_at_once_and_readers_before_prefetch(
    make_site: MakeSite,
) -> None:
    site = await make_site(scheduler=FetchScheduler(max_fills=1))
    first, ahead, wanted = sources(3)
    gate = first.gate(0)
    waiting: list[Awaitable[object]] = [asyncio.create_task(site.read(first))]
    await gate.reached.wait()
    waiting.append(asyncio.create_task(site.cache.fetch(ahead.expected, ahead)))
    await turn()
    waiting.append(asyncio.create_task(site.read(wanted)))
    await turn()
    assert [fill.queued for fill in site.cache.fills()] == [0, 2, 1]
    assert ahead.opens + wanted.opens == []
    gate.open()
    await asyncio.gather(*waiting)
    await site.event(FillEnded, 3)
    keys = [source.expected.key for source in (first, wanted, ahead)]
    assert [e.key for e in site.all(FillStarted)] == keys


async def test_what_is_new_is_fetched_before_what_was_here(make_site: MakeSite) -> None:
    """A blob that turned out wrong is fetched anew when nothing else is to be fetched, and nobody waits for it."""
    site = await make_site(scheduler=FetchScheduler(max_fills=1))
    first, broken, ahead = sources(3)
    ahead.data += os.urandom(SIZE)  # among equals the smaller one would come sooner
    await site.read(broken)
    await site.event(FillEnded)
    await site.cache.quarantine(broken.expected.key, "for the test")
    gate = first.gate(0)
    waiting = [asyncio.create_task(site.cache.fetch(first.expected, first))]
    await gate.reached.wait()
    for source in (broken, ahead):
        waiting.append(asyncio.create_task(site.cache.fetch(source.expected, source)))
        await turn()
    gate.open()
    await asyncio.gather(*waiting)
    keys = [source.expected.key for source in (broken, first, ahead, broken)]
    assert [e.key for e in site.all(FillStarted)] == keys


async def test_a_fill_that_failed_gives_its_place_to_the_next(make_site: MakeSite) -> None:
    site = await make_site(scheduler=FetchScheduler(max_fills=1))
    bad, good = sources(2)
    bad.refusals.append(SourceGone("no such file"))
    outcomes = await asyncio.gather(site.read(bad), site.read(good), return_exceptions=True)
    assert isinstance(outcomes[0], SourceGone)
    assert outcomes[1] == good.data


async def test_stopping_ends_those_in_the_queue(make_site: MakeSite) -> None:
    site = await make_site(scheduler=FetchScheduler(max_fills=1))
    first, second = sources(2)
    gate = first.gate(0)
    readers = [asyncio.create_task(site.read(source)) for source in (first, second)]
    await gate.reached.wait()
    await site.cache.close()
    await asyncio.gather(*readers, return_exceptions=True)
    assert len(site.all(FillEnded)) == 2
    assert second.opens == []


async def test_all_fills_together_keep_to_the_rate(make_site: MakeSite) -> None:
    site = await make_site(scheduler=FetchScheduler(rate=2_000_000.0))
    began = now()
    both = sources(2)
    await asyncio.gather(*(site.cache.fetch(source.expected, source) for source in both))
    chunk = both[0].chunk
    assert now() - began >= (2 * SIZE - 2 * chunk) / 2_000_000 - BURST_SECONDS
