"""Readers that do not read when their bytes turn out wrong: nothing hangs, and the mirror goes on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from omaha_mirror.omaha import parse_response
from tests.support.mirror import PAYLOAD_PATH, Mirror, MirrorProcess, Site, omaha
from tests.support.talk import Talk, request
from tests.support.upstream import Corrupt, Gate, Upstream

READERS = 100
CHECKS = 1000
SIZE = 24 * 1024 * 1024
"""More than the kernel takes for a client that does not read."""


@asynccontextmanager
async def stuck(site: Site, release: Upstream) -> AsyncIterator[tuple[list[Talk], Gate]]:
    """Clients that have got a head and read no further, and the gate before the one wrong byte."""
    release.put(PAYLOAD_PATH, bytes(SIZE))
    release.fault(PAYLOAD_PATH, Corrupt(at=SIZE - 1, times=1))
    gate = release.hold(PAYLOAD_PATH, at=SIZE - 1)
    path = await site.payload()
    talks = [await Talk.dial(site.address, buffer=4096) for _ in range(READERS)]
    try:
        for talk in talks:
            await talk.send(request("GET", path))
        for talk in talks:
            assert (await talk.head()).length == SIZE
        await gate.reached()
        yield talks, gate
    finally:
        for talk in talks:
            talk.close()


async def all_end(talks: list[Talk]) -> None:
    """Read what is on its way: each connection ends, and short."""
    for talk in talks:
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for got in await asyncio.gather(*(talk.rest() for talk in talks)):
        assert len(got) < SIZE - 1


async def check_again_and_again(site: Site) -> None:
    """Many machines ask, on twenty connections."""
    body = omaha("request_check_first")
    url = f"http://{site.address}/v1/update/"

    async def check(session: aiohttp.ClientSession) -> str:
        async with session.post(url, data=body) as answer:
            [app] = parse_response(await answer.read()).apps
            assert app.update_check is not None
            return app.update_check.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20)) as session:
        told = await asyncio.gather(*(check(session) for _ in range(CHECKS)))
    assert told == ["ok"] * CHECKS


async def test_no_handler_is_left_of_readers_that_were_cut(
    mirror: Mirror, release: Upstream
) -> None:
    before = asyncio.all_tasks()
    async with stuck(mirror, release) as (talks, gate):
        assert mirror.active == READERS
        assert mirror.service.cache.fills()[0].readers == READERS
        theirs = {task for task in asyncio.all_tasks() - before if "RequestHandler" in repr(task)}
        gate.open()
        # Nobody has read a byte more.
        await mirror.until(lambda: mirror.active == 0)
        await asyncio.wait(theirs, timeout=10)
        assert not [task for task in theirs if not task.done()]
        await all_end(talks)
    await mirror.until(lambda: bool(mirror.ended()))
    assert mirror.service.cache.fills() == []
    assert [fill.outcome for fill in mirror.ended()] == ["wrong"]
    await check_again_and_again(mirror)
    assert len((await mirror.get(await mirror.payload())).body) == SIZE


@pytest.mark.long
async def test_a_process_goes_on_and_stops_at_once_after_cutting_readers(
    process: MirrorProcess, release: Upstream
) -> None:
    async with stuck(process, release) as (talks, gate):
        gate.open()
        await all_end(talks)
        await check_again_and_again(process)
        # Within the moment that responses under way are given: there are none.
        async with asyncio.timeout(5):
            assert await process.terminate() == 0
    assert not [line for line in process.log if "Traceback" in line]
