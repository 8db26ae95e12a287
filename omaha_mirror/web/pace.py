"""How fast clients take what they are sent, as the kernel counts it: the bytes that they acknowledged.

Nobody counts on the way: sendfile and TLS hand over megabytes at a time, and the kernel's books are right for both.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from omaha_mirror.web.connection import Connection, Room, Sample

SLOW = 10.0
"""Bytes a second below which update_engine gives up, too (update_engine/libcurl_http_fetcher.cc)."""
WINDOW = 10.0
"""Seconds in which they are counted."""
ROUND = 2.5
"""Seconds between two looks at all connections."""
AT_A_TIME = 200
"""Connections that are looked at before the loop does something else."""

UNACKED, ACKED, NOT_SENT = 24, 120, 144
"""Where they stand in struct tcp_info (linux/tcp.h)."""
INFO_SIZE = 148


def acknowledged(connection: socket.socket) -> int | None:
    """Bytes that the client's kernel took so far; None where it took all there is, or nobody can tell."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE)
    except OSError:
        return None
    if len(info) < INFO_SIZE:
        return None
    [segments], [rest] = (
        struct.unpack_from("I", info, UNACKED),
        struct.unpack_from("I", info, NOT_SENT),
    )
    if not segments and not rest:
        return None
    return int(struct.unpack_from("Q", info, ACKED)[0])


def look(room: Room, connection: Connection, now: float) -> None:
    """Note whether its client reads too slowly. One for whom we have nothing yet is waited with, and not slow."""
    if not connection.answering or connection.raw is None:
        return
    count = acknowledged(connection.raw.get_extra_info("socket"))
    last = connection.sample
    if count is None:
        if last is not None:
            connection.sample = None
            room.busy(connection)
        return
    if last is None:
        connection.sample = Sample(now, count)
    elif now - last.at >= WINDOW:
        connection.sample = Sample(now, count)
        rate = (count - last.acknowledged) / (now - last.at)
        if rate < SLOW:
            room.slow(connection, rate)
        else:
            room.busy(connection)


async def watch(room: Room, after: Callable[[], None]) -> None:
    """Look at all connections again and again, until cancelled.

    Args:
        room: has them, and is told which are slow.
        after: called after each round.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(ROUND)
        for number, connection in enumerate(list(room)):
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            if isinstance(connection, Connection) and connection in room:
                look(room, connection, loop.time())
        after()
