"""A connection that hardly delivers is held against a second one, and closed only when that delivers more.

Slowness alone is no reason to give up: a mirror upstream of us feeds 64 bytes a second while it holds back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from omaha_mirror.aio.finish import stop
from omaha_mirror.cache.errors import CacheError, SourceFailed
from omaha_mirror.cache.flow import Connect, Flow, patiently

ENOUGH = 64 * 1024
"""Bytes that no slow connection delivers while it is held against another."""


class Pace:
    """How fast a connection delivers while it is waited for.

    Args:
        seconds: of waiting that are measured at a time.
        rate: bytes a second below which it is slow.

    Attributes:
        slow: whether it was, when measured last.
    """

    def __init__(self, seconds: float, rate: float) -> None:
        self.slow = False
        self._begun = False
        self._seconds = seconds
        self._rate = rate
        self._count, self._waited = 0, 0.0

    def add(self, count: int, waited: float) -> None:
        """Note bytes, and the seconds that they were waited for; those before the first went into connecting."""
        if not self._begun:
            self._begun = True
            return
        self._count += count
        self._waited += waited
        if self._waited >= self._seconds:
            self.slow = self._count < self._rate * self._waited
            self._count, self._waited = 0, 0.0


async def overtake(
    slow: Flow, connect: Connect, *, seconds: float, worth_it: Callable[[], bool]
) -> tuple[Flow, bytes]:
    """Ask again beside a slow connection; gives the one to go on with, and what it has delivered since.

    Args:
        slow: hardly delivers.
        connect: opens another answer at the same offset.
        seconds: how long the other one has to deliver more.
        worth_it: whether to wait on.

    Raises:
        CacheError: the slow one failed, and the other one too.
    """
    fresh = Flow(connect)
    got = {slow: bytearray(), fresh: bytearray()}
    reading = {flow: asyncio.create_task(patiently(flow, worth_it)) for flow in got}
    until, winner = time.monotonic() + seconds, None
    failure: CacheError = SourceFailed("both connections ended early")
    try:
        while winner is None:
            if not reading:
                raise failure
            await asyncio.wait(reading.values(), return_when=asyncio.FIRST_COMPLETED)
            for flow in [flow for flow, task in reading.items() if task.done()]:
                task = reading.pop(flow)
                try:
                    chunk = task.result()
                except CacheError as error:
                    failure, chunk = error if flow is slow else failure, None
                if chunk is None:
                    continue
                got[flow] += chunk
                over = fresh not in reading or time.monotonic() > until or len(got[slow]) > ENOUGH
                if (flow is fresh and len(got[fresh]) > len(got[slow])) or (flow is slow and over):
                    winner = flow
                    break
                reading[flow] = asyncio.create_task(patiently(flow, worth_it))
        return winner, bytes(got[winner])
    finally:
        await stop(reading.values())
        for flow in {slow, fresh} - {winner}:
            await flow.close()
