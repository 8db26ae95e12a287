"""The mirror as a systemd service: its status, its watchdog, and the pause before it starts again after a crash.

The watchdog is fed only if the mirror's own listener accepts a new connection: a loop that runs timers but accepts no
connections is as dead as one that hangs.

systemd before version 254 has one pause for all restarts (`RestartSec=`), so the growing one is here: the first restarts
are quick, a crash loop is slow. The starts are in a directory that outlives restarts and not a stop: see
RuntimeDirectoryPreserve= in the unit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from rich.filesize import decimal

from omaha_mirror.aio.clock import since_boot
from omaha_mirror.aio.tasks import keep_running
from omaha_mirror.config import Address
from omaha_mirror.service import Service
from omaha_mirror.systemd import Notifier
from omaha_mirror.web.accepting import SHORT

LOG = structlog.get_logger(__name__)
STATUS_EVERY = 10.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
WINDOW = 600.0
"""Seconds in which starts count."""
QUICK = 3
"""Starts in the window that need no pause."""
LONGEST_PAUSE = 30.0
"""Seconds of the longest pause; less than systemd waits for a start (TimeoutStartSec=)."""
LIMIT = 4096


@asynccontextmanager
async def supervised(
    notifier: Notifier, watchdog: float | None, address: Address, status: Callable[[], str]
) -> AsyncIterator[None]:
    """Notify systemd: ready at the beginning, stopping at the end, status and watchdog in between.

    Args:
        notifier: to systemd.
        watchdog: seconds that systemd waits for a sign of life; None if it does not.
        address: that the mirror listens on.
        status: gives the status, a sentence.
    """
    notifier.ready()
    sending = partial(_send_status, notifier, status)
    tasks = [asyncio.create_task(keep_running(sending, "sending systemd the status"))]
    if watchdog is not None:
        feeding = partial(_feed, notifier, watchdog, address)
        tasks.append(
            asyncio.create_task(keep_running(feeding, "feeding the watchdog", watchdog / 16))
        )
    try:
        yield
    finally:
        notifier.stopping()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _send_status(notifier: Notifier, status: Callable[[], str]) -> None:
    """Send the status now, and when it has changed."""
    sent = ""
    while True:
        sentence = status()
        if sentence != sent:
            notifier.status(sentence)
            sent = sentence
        await asyncio.sleep(STATUS_EVERY)


async def _feed(notifier: Notifier, watchdog: float, address: Address) -> None:
    """Feed the watchdog each half of its time; if a check fails there is time for two more."""
    while True:
        if await answers(address, watchdog / 8):
            notifier.alive()
            await asyncio.sleep(watchdog / 2)
        else:
            LOG.error("the mirror does not answer its own check", address=str(address))
            await asyncio.sleep(watchdog / 16)


async def answers(address: Address, deadline: float) -> bool:
    """Whether a new connection is accepted within so many seconds.

    A connection that is closed without an answer counts: so ends one connection too many, and a restart would cut all
    others. That there is no descriptor left to connect with is no sign of a dead loop either.
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
    """The status of a running mirror."""
    fills = service.cache.fills()
    fetched = service.observer.totals.fetched + sum(fill.filled for fill in fills)
    return sentence(len(fills), fetched, service.observer.totals.served)


def sentence(fills: int, fetched: int, served: int) -> str:
    """The number of downloads, and the bytes that came from upstream and that went to machines, in words."""
    packages = {0: "Fetching nothing", 1: "Fetching 1 package"}.get(
        fills, f"Fetching {fills} packages"
    )
    if not served:
        return f"{packages}; nothing was served yet."
    hits = max(0, served - fetched) / served
    return f"{packages}; {decimal(served)} served, {hits:.0%} of it from the cache."


def pause(starts: Sequence[float], now: float) -> float:
    """Seconds to wait before a start, after starts at these times whose process crashed."""
    recent = sum(now - WINDOW < start <= now for start in starts)
    return 0.0 if recent < QUICK else min(LONGEST_PAUSE, 2.0 ** (recent - QUICK))


class Starts:
    """The starts of this service since its last stop.

    Args:
        environ: RUNTIME_DIRECTORY names the directory of their file; without it there are none.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        directory = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._path = Path(directory, "starts") if directory else None

    def begin(self) -> float:
        """Record this start; gives the seconds to wait first."""
        if self._path is None:
            return 0.0
        now, starts = since_boot(), self._read(self._path)
        kept = [start for start in starts if now - WINDOW < start <= now]
        with suppress(OSError):
            self._path.write_text("".join(f"{start}\n" for start in (*kept, now)))
        return pause(kept, now)

    def end(self) -> None:
        """Forget all starts, as the mirror was stopped."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    @staticmethod
    def _read(path: Path) -> list[float]:
        """The recorded starts; none if the file cannot be read."""
        try:
            with path.open("rb") as file:
                return [float(line) for line in file.read(LIMIT).splitlines()]
        except (OSError, ValueError):
            return []
