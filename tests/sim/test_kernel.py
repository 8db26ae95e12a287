"""The loop, the network and the threads of the simulation do what the real ones promise, the same way each time."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from omaha_mirror.aio.workers import Workers
from tests.sim.loop import Process, Stuck
from tests.sim.world import World

SERVER, CLIENT = "10.0.0.1", "10.0.2.1"
BODY = bytes(range(251)) * 1000


def run(seed: int, work: Callable[[World], Coroutine[Any, Any, object]]) -> World:
    """A world in which that was done."""
    world = World(seed)
    with world.running():
        world.loop.run_until_complete(work(world))
    return world


async def serve(world: World, server: Process) -> None:
    """Answer each connection with the body, and then end it."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(BODY)
            await writer.drain()
        finally:
            world.say("server", "it has left")
            writer.close()

    async def listen() -> None:
        await asyncio.start_server(answer, SERVER, 80)

    await world.loop.start(server, listen())


async def read(world: World, number: int) -> bytes:
    """All that a client gets."""
    reader, writer = await asyncio.open_connection(SERVER, 80)
    digest, count = hashlib.sha256(), 0
    try:
        while piece := await reader.read(50_000):
            digest.update(piece)
            count += len(piece)
            world.say(f"client {number}", f"{count} bytes")
    finally:
        writer.close()
    return digest.digest()


async def clients(world: World) -> None:
    """Three of them at once, over one slow line."""
    link = world.net.link(SERVER, CLIENT)
    link.rate, link.segment = 1e6, 5000
    await serve(world, Process("server", SERVER))
    tasks = [
        world.loop.start(Process(f"client {number}", CLIENT), read(world, number))
        for number in range(3)
    ]
    assert await asyncio.gather(*tasks) == [hashlib.sha256(BODY).digest()] * 3


def test_bytes_arrive_in_order_and_the_same_way_for_one_seed() -> None:
    stories = [run(seed, clients).story for seed in (1, 1, 2)]
    assert stories[0] == stories[1] != stories[2]
    assert len(stories[0]) > 20


def test_of_a_process_that_is_killed_nothing_runs_and_its_connections_end() -> None:
    server = Process("server", SERVER)

    async def work(world: World) -> None:
        world.net.link(SERVER, CLIENT).rate = 1e5
        await serve(world, server)
        reading = world.loop.start(Process("client", CLIENT), read(world, 1))
        await asyncio.sleep(0.5)
        world.loop.kill(server)
        assert await reading != hashlib.sha256(BODY).digest()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(SERVER, 80)

    world = run(3, work)
    assert not any("it has left" in line for line in world.story)
    assert world.net.open_sockets(server) == 0


def test_a_line_that_is_silent_holds_bytes_back_and_one_that_is_cut_loses_them() -> None:
    async def work(world: World) -> None:
        link = world.net.link(SERVER, CLIENT)
        link.rate = 1e5
        await serve(world, Process("server", SERVER))
        reading = [world.loop.start(Process("client", CLIENT), read(world, 1)) for _ in range(2)]
        await asyncio.sleep(0.5)
        link.stalled = True
        lines = len(world.story)
        await asyncio.sleep(60)
        assert len(world.story) <= lines + 2
        link.stalled = False
        assert await reading[0] == hashlib.sha256(BODY).digest()
        reading.append(world.loop.start(Process("client", CLIENT), read(world, 2)))
        await asyncio.sleep(0.5)
        assert world.net.cut(SERVER, CLIENT) >= 1
        with pytest.raises(ConnectionResetError):
            await reading[2]

    run(4, work)


def test_threads_are_events_and_one_that_hangs_holds_up_its_own_place_alone() -> None:
    async def work(world: World) -> None:
        workers, order = Workers(1, "a disk"), list[str]()
        first = asyncio.create_task(workers.call(order.append, "first"))
        second = asyncio.create_task(workers.call(order.append, "second"))
        assert order == []
        await asyncio.gather(first, second)
        assert order == ["first", "second"]
        assert world.loop.time() > 0

    run(5, work)


def test_waiting_for_what_never_happens_ends() -> None:
    with pytest.raises(Stuck):
        run(6, lambda world: world.loop.create_future())  # type: ignore[arg-type,return-value]
