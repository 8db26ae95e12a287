"""The end of a listener: who was let in is heard."""

import asyncio
import socket

import pytest
from aiohttp import web

from omaha_mirror.config import Address
from omaha_mirror.web import server
from omaha_mirror.web.server import Listener
from tests.support.talk import Talk, ask, dial, request
from tests.systemd.manager import listening

HERE = Address("127.0.0.1", 0)


async def ok(_: web.BaseRequest) -> web.Response:
    return web.Response(text="ok\n")


async def until_closed(address: Address) -> None:
    """Wait until no new connection is taken."""
    while True:
        with socket.socket() as sock:
            if sock.connect_ex((address.host, address.port)) != 0:
                return
        await asyncio.sleep(0)


async def test_who_was_let_in_before_the_stop_is_still_answered() -> None:
    listener = Listener(ok)
    [address] = await listener.start([HERE])
    async with dial(address) as talk:
        assert (await ask(address, "GET", "/")).status == 200  # so the one before it was let in
        stopping = asyncio.create_task(listener.stop())
        await until_closed(address)
        await talk.send(request("GET", "/"))
        assert (await talk.answer()).body == b"ok\n"
        await stopping


async def test_who_says_nothing_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_WORDS", 0.01)
    listener = Listener(ok)
    [address] = await listener.start([HERE])
    async with dial(address) as talk:
        assert (await ask(address, "GET", "/")).status == 200
        await listener.stop()
        assert await talk.rest() == b""


@pytest.mark.parametrize("turns", range(7))
async def test_at_whatever_turn_the_stop_comes_a_connection_has_this_listener_or_the_next(
    turns: int,
) -> None:
    with listening() as shared, socket.socket() as client:
        first, second = Listener(ok), Listener(ok)
        await first.start([shared.dup()])
        client.setblocking(False)
        talk = Talk(client)
        client.connect_ex(shared.getsockname())
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping = asyncio.create_task(first.stop())
        await talk.send(request("GET", "/"))
        await stopping
        await second.start([shared.dup()])
        assert (await talk.answer()).body == b"ok\n"
        await second.stop()
