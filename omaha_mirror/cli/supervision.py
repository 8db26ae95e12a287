"""Under systemd: saying that the mirror serves, how it goes, and that its loop is alive.

The watchdog is fed only when a new connection to the mirror's own listener was heard: a loop that runs timers but takes no
connections is as dead as one that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog
from rich.filesize import decimal

from omaha_mirror.aio.tasks import keep_running
from omaha_mirror.config import Address
from omaha_mirror.service import Service
from omaha_mirror.systemd import Notifier
from omaha_mirror.web.accepting import SHORT

LOG = structlog.get_logger(__name__)
STATUS_EVERY = 10.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def supervised(
    notifier: Notifier, watchdog: float | None, address: Address, status: Callable[[], str]
) -> AsyncIterator[None]:
    """Ready at the beginning, stopping at the end, and news meanwhile.

    Args:
        notifier: told all of it.
        watchdog: seconds that the service manager waits for a sign of life; None if it does not.
        address: that the mirror listens on.
        status: how it goes, in a sentence.
    """
    notifier.ready()
    telling = partial(_tell_status, notifier, status)
    tasks = [asyncio.create_task(keep_running(telling, "telling the service manager how it goes"))]
    if watchdog is not None:
        feeding = partial(_feed, notifier, watchdog, address)
        tasks.append(
            asyncio.create_task(keep_running(feeding, "giving signs of life", watchdog / 16))
        )
    try:
        yield
    finally:
        notifier.stopping()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _tell_status(notifier: Notifier, status: Callable[[], str]) -> None:
    """Tell the status now, and when it has changed."""
    told = ""
    while True:
        sentence = status()
        if sentence != told:
            notifier.status(sentence)
            told = sentence
        await asyncio.sleep(STATUS_EVERY)


async def _feed(notifier: Notifier, watchdog: float, address: Address) -> None:
    """Give a sign of life each half of the time; where a check fails there is time for two more."""
    while True:
        if await answers(address, watchdog / 8):
            notifier.alive()
            await asyncio.sleep(watchdog / 2)
        else:
            LOG.error("the mirror does not answer its own check", address=str(address))
            await asyncio.sleep(watchdog / 16)


async def answers(address: Address, deadline: float) -> bool:
    """Whether a new connection is heard within so many seconds.

    One that is closed without a word was heard too: that is what becomes of one connection too many, and a restart
    would cut all the others. Where there is no descriptor left to ask with, that is no sign of a dead loop either.
    """
    here = address.from_here
    try:
        async with asyncio.timeout(deadline):
            reader, writer = await asyncio.open_connection(here.host, here.port)
            try:
                writer.write(HEALTH)
                answer = await reader.read(64)
            finally:
                writer.close()
    except TimeoutError:
        return False
    except OSError as error:
        return isinstance(error, ConnectionResetError) or error.errno in SHORT
    return not answer or answer.startswith(b"HTTP/1.1 200 ")


def status(service: Service) -> str:
    """How a running mirror is doing."""
    fills = service.cache.fills()
    fetched = service.observer.totals.fetched + sum(fill.filled for fill in fills)
    return sentence(len(fills), fetched, service.observer.totals.served)


def sentence(fills: int, fetched: int, served: int) -> str:
    """Packages being fetched, and bytes that came over the line and that went to machines, in words."""
    packages = {0: "Fetching nothing", 1: "Fetching 1 package"}.get(
        fills, f"Fetching {fills} packages"
    )
    if not served:
        return f"{packages}; nothing was served yet."
    hits = max(0, served - fetched) / served
    return f"{packages}; {decimal(served)} served, {hits:.0%} of it from the cache."
