"""What the benchmarks of package bytes have in common: a folder, a release server, and clients."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import Clients
from benchmarks.servers import Server, path_of
from tests.support.upstream import Upstream
from tests.support.wire import Line

MB = 1_000_000
CREDIT = 0.05
"""Seconds of lateness that a line makes up for."""


class SteadyLine(Line):
    """A line that makes up for a late sender, as a full buffer before a real one does."""

    async def take(self, count: int) -> None:
        """Return when `count` bytes have passed, or would have."""
        now = asyncio.get_running_loop().time()
        self.free_at = max(self.free_at, now - CREDIT) + count / self.rate
        if self.free_at > now:
            await asyncio.sleep(self.free_at - now)


class Origin(Upstream):
    """The release server."""

    def throttle(self, rate: float | None) -> None:
        """Limit all connections together to so many body bytes a second."""
        self._line = None if rate is None else SteadyLine(rate)


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder for everything, the release server, and the clients."""

    directory: Path
    origin: Origin
    clients: Clients

    @property
    def port(self) -> int:
        """Of the release server."""
        return int(self.origin.origin.rpartition(":")[2])

    @property
    def static(self) -> Path:
        """The folder of what nginx serves as files."""
        return self.directory / "static"

    def publish(self, version: str, size: int) -> bytes:
        """Put up a payload of this size, with its `.sha256`; gives its bytes."""
        body = os.urandom(size)
        self.origin.put(path_of(version), body)
        return body

    def keep(self, version: str, body: bytes) -> None:
        """Put a payload in the folder of static files."""
        file = self.static / path_of(version)[1:]
        file.parent.mkdir(parents=True)
        file.write_bytes(body)

    async def announce(self, server: Server, version: str) -> None:
        """Let the mirror learn a release, as the first update check does, without its package."""
        answer = await server.ask("HEAD", path_of(version))
        if answer.status != 200:
            raise RuntimeError(f"{path_of(version)}: {answer}")


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Everything is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="omaha-bench-") as folder:
        async with Origin() as origin, Clients() as clients:
            yield Scene(Path(folder), origin, clients)
