"""Machines that check again and again, and never rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.mirror import Site
from tests.support.talk import PATIENCE

CLIENTS = 8


class Load:
    """Clients, each check on a connection of its own, and what became of the checks.

    Attributes:
        answered: with status 200.
        lost: connections that ended without a whole answer.
        refused: connections that nobody took.
    """

    def __init__(self, site: Site) -> None:
        self.answered = self.lost = self.refused = 0
        self._site = site
        self._news = asyncio.Condition()
        self._stop = False

    async def run(self) -> None:
        """Check until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def more(self, count: int = 2 * CLIENTS) -> None:
        """Wait for so many further answers."""
        goal = self.answered + count
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.answered >= goal)

    def stop(self) -> None:
        """Let each client end with its next answer."""
        self._stop = True

    async def _client(self) -> None:
        while not self._stop:
            try:
                answer = await self._site.check()
            except ConnectionRefusedError:
                self.refused += 1
            except (ConnectionError, AssertionError):
                self.lost += 1
            else:
                assert answer.status == 200
                async with self._news:
                    self.answered += 1
                    self._news.notify_all()


@asynccontextmanager
async def under_load(site: Site) -> AsyncIterator[Load]:
    """Load while the block runs; at its end every check has ended."""
    load = Load(site)
    running = asyncio.create_task(load.run())
    try:
        await load.more()
        yield load
        await load.more()
    finally:
        load.stop()
        await running
