"""Whose turn it is on the line, as a pure function and with real fills."""

import asyncio
import os
from collections.abc import Sequence

import pytest

from omaha_mirror.cache import FetchScheduler
from omaha_mirror.cache.events import FillEnded
from omaha_mirror.cache.fetch_scheduler import Claim, Priority, Standing, order, turns
from tests.cache.conftest import MakeSite
from tests.cache.site import rest
from tests.cache.source import ScriptedSource

MB = 1_000_000
SLICE = 5.0


def fill(
    client: str = "",
    left: int = 400 * MB,
    *,
    release: str = "",
    priority: Priority = Priority.WAITED_FOR,
    running: bool = False,
    seconds: float = 0.0,
) -> Standing:
    clients = frozenset({client} - {""})
    return Standing(priority, Claim(clients, release, left), running, seconds, seconds)


def chosen(standings: Sequence[Standing], places: int = 3) -> list[int]:
    return sorted(turns(standings, places, SLICE))


HOG = [fill("hog", running=True, seconds=60.0, release=f"r{i}") for i in range(3)]


def test_free_places_are_taken_and_small_ones_are_sooner() -> None:
    assert chosen([fill(left=9 * MB), fill(left=2 * MB), fill(left=3 * MB)], 2) == [1, 2]


def test_equal_ones_come_in_their_order() -> None:
    waiting = [fill(seconds=3.0), fill(seconds=2.0), fill(seconds=1.0)]
    assert chosen(waiting, 1) == [0]
    assert order(waiting) == [0, 1, 2]


def test_who_has_many_gives_one_up_after_a_slice() -> None:
    assert len(turns([*HOG, fill("box", 2 * MB)], 3, SLICE) & {0, 1, 2}) == 2
    assert 3 in turns([*HOG, fill("box")], 3, SLICE)
    assert chosen([*[fill("hog", running=True, seconds=4.9)] * 3, fill("box", 2 * MB)]) == [0, 1, 2]


def test_so_does_a_release_that_has_many() -> None:
    many = [fill(f"box {i}", running=True, seconds=60.0, release="a") for i in range(3)]
    assert 3 in turns([*many, fill("box 9", release="b")], 3, SLICE)


def test_a_small_one_that_runs_stays_and_a_large_one_makes_room() -> None:
    running = [
        fill("a", 2 * MB, running=True, seconds=60.0),
        fill("b", 400 * MB, running=True, seconds=60.0),
    ]
    assert chosen([*running, fill("c", 5 * MB)], 2) == [0, 2]


def test_none_waits_for_ever() -> None:
    """However many small ones come, and however many a client has running already."""
    small = [fill("other", MB, running=True, seconds=SLICE)] * 3
    assert 3 in turns([*small, fill("big", seconds=25.0)], 3, SLICE)
    assert 3 in turns([*HOG, fill("hog", seconds=1.0, release="r9")], 3, SLICE)


def test_a_crowd_of_old_ones_of_one_client_does_not_wait_before_a_new_client() -> None:
    old = [
        Standing(0, Claim(frozenset({"hog"}), f"o{i}", 400 * MB), False, 300.0) for i in range(50)
    ]
    standings = [*HOG, *old, fill("box", 2 * MB)]
    assert order(standings)[0] == len(standings) - 1


def test_urgent_ones_take_the_places_of_others_at_once() -> None:
    ahead = [fill(priority=Priority.PREFETCH, running=True)] * 3
    assert chosen([*ahead, fill("box")])[-1] == 3
    assert len(chosen([*ahead, fill("box")])) == 3
    reading = [fill(running=True, seconds=60.0)] * 3
    assert chosen([*reading, fill(priority=Priority.PREFETCH, left=1, seconds=900.0)]) == [0, 1, 2]


def test_fewer_places_take_none_away() -> None:
    assert chosen([fill(running=True, seconds=1.0), fill(running=True, seconds=1.0)], 1) == [0, 1]


@pytest.mark.parametrize("clients", [1, 2, 7])
@pytest.mark.parametrize("count", [4, 10])
def test_all_get_their_turns(clients: int, count: int) -> None:
    """Seconds without one, of fills that never end: below what a client waits (75 s)."""
    state = [[False, 0.0] for _ in range(count)]
    served = [0.0] * clients
    longest = 0.0
    for second in range(1, 600):
        standings = [
            Standing(
                0,
                Claim(frozenset({str(i % clients)}), f"r{i}", (i + 1) * 50 * MB),
                bool(running),
                second - since,
                second - max(since, served[i % clients]),
            )
            for i, (running, since) in enumerate(state)
        ]
        now = turns(standings, 3, SLICE)
        for i, entry in enumerate(state):
            if (i in now) != entry[0]:
                longest = max(longest, 0.0 if entry[0] else second - entry[1])
                entry[:] = [i in now, float(second)]
            if entry[0]:
                served[i % clients] = float(second)
    longest = max(longest, *(600 - since for running, since in state if not running))
    assert longest < 60.0


async def test_a_small_package_does_not_wait_for_three_large_ones_of_one_client(
    make_site: MakeSite,
) -> None:
    """They pause where they are, and go on after it with what they have."""
    site = await make_site(scheduler=FetchScheduler(max_fills=3, slice_seconds=0.05))
    large = [ScriptedSource(os.urandom(1 << 20)) for _ in range(3)]
    small = ScriptedSource(os.urandom(50_000))
    gates = [source.gate(1 << 19) for source in large]

    async def read(source: ScriptedSource, client: str) -> bytes:
        with site.cache.read(source.expected, source, 0, len(source.data), client) as reader:
            return await rest(reader)

    hog = [asyncio.create_task(read(source, "hog")) for source in large]
    await asyncio.gather(*(gate.reached.wait() for gate in gates))
    assert await read(small, "box") == small.data
    assert not any(task.done() for task in hog)
    assert (await site.event(FillEnded)).key == small.expected.key
    for gate in gates:
        gate.open()
    assert await asyncio.gather(*hog) == [source.data for source in large]
    assert [len(source.opens) for source in large] == [1, 1, 1]


async def test_a_paused_fill_takes_no_bytes(make_site: MakeSite) -> None:
    site = await make_site(scheduler=FetchScheduler(max_fills=1, slice_seconds=3600.0))
    ahead, wanted = ScriptedSource(os.urandom(1 << 20)), ScriptedSource(os.urandom(1 << 20))
    first, second = ahead.gate(1 << 18), wanted.gate(1 << 18)
    fetching = asyncio.create_task(site.cache.fetch(ahead.expected, ahead))
    await first.reached.wait()
    reading = asyncio.create_task(site.read(wanted))
    await second.reached.wait()
    first.open()
    other = ScriptedSource(b"another" * 1000)
    waiting = asyncio.create_task(site.cache.fetch(other.expected, other))
    for _ in range(100):
        await asyncio.sleep(0)
    assert ahead.sent <= (1 << 18) + ahead.chunk
    second.open()
    assert await reading == wanted.data
    await asyncio.gather(fetching, waiting)
    assert ahead.sent == len(ahead.data)
