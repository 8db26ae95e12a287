"""How fast clients read their answers, as the kernel counts it: the bytes that they acknowledged.

The mirror does not count them itself: sendfile and TLS hand over megabytes at a time, and the kernel's count is right for
both.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from omaha_mirror.web.connection import Connection, Sample, Table

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
    """Bytes that the client's kernel has acknowledged; None where all are, or the kernel does not say."""
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


def look(table: Table, connection: Connection, now: float) -> None:
    """Mark whether its client reads too slowly; a client that has nothing to read yet is not slow."""
    if not connection.answering or connection.raw is None:
        return
    count = acknowledged(connection.raw.get_extra_info("socket"))
    last = connection.sample
    if count is None:
        if last is not None:
            connection.sample = None
            table.set_busy(connection)
        return
    if last is None:
        connection.sample = Sample(now, count)
    elif now - last.at >= WINDOW:
        connection.sample = Sample(now, count)
        rate = (count - last.acknowledged) / (now - last.at)
        if rate < SLOW:
            table.set_slow(connection, rate)
        else:
            table.set_busy(connection)


async def watch(table: Table, after: Callable[[], None]) -> None:
    """Look at all connections again and again, until cancelled.

    Args:
        table: of them, in which the slow ones are marked.
        after: called after each round.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(ROUND)
        for number, connection in enumerate(list(table)):
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            if isinstance(connection, Connection) and connection in table:
                look(table, connection, loop.time())
        after()
