"""Those who were accepted are let in by turns of their addresses."""

import asyncio
import socket
from contextlib import closing

from omaha_mirror.web.accepting import LET_IN, Arrival, Arrivals
from tests.support.talk import PATIENCE


def arrival(address: str) -> Arrival:
    return Arrival(socket.socket(), None, address, address, lambda _: None)


async def test_addresses_take_turns_and_who_was_given_up_is_not_let_in() -> None:
    let_in: list[Arrival] = []
    done = asyncio.Event()

    def take(one: Arrival) -> None:
        one.sock.close()
        let_in.append(one)
        if len(let_in) == 3 * LET_IN + 1:
            done.set()

    arrivals = Arrivals(take)
    many = [arrival("a") for _ in range(3 * LET_IN)]
    for one in many:
        arrivals.put(one)
    few = [arrival("b"), arrival("b")]
    for one in few:
        arrivals.put(one)
    few[1].give_up()
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    assert let_in == [many[0], few[0], *many[1:]]


async def test_all_can_be_let_in_at_once() -> None:
    let_in: list[Arrival] = []
    arrivals = Arrivals(let_in.append)
    many = [arrival(address) for address in "aaab"]
    for one in many:
        arrivals.put(one)
    arrivals.all()
    assert let_in == [many[0], many[3], many[1], many[2]]
    await asyncio.sleep(0)
    for one in many:
        with closing(one.sock):
            pass
    assert len(let_in) == 4
