"""The fleet's database, which keeps what was committed: its own files are out of scope here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from omaha_mirror.fleet import recorder
from omaha_mirror.fleet.model import Item
from omaha_mirror.observability import fleet_feed


class Fleet:
    """What one mirror's database has, whichever process of it wrote that.

    Attributes:
        items: in the order in which they were committed.
    """

    where = "the fleet's double"

    def __init__(self, rng: random.Random) -> None:
        self.items: list[Item] = []
        self._rng = rng

    async def migrate(self) -> None:
        """There are no tables."""

    async def mend(self, _error: Exception) -> bool:
        """Nothing is damaged."""
        return False

    async def close(self) -> None:
        """Nothing is open."""

    async def write(self, items: Sequence[Item]) -> None:
        """Commit items, all or none."""
        await asyncio.sleep(self._rng.uniform(0.001, 0.02))
        self.items += items
        await asyncio.sleep(self._rng.uniform(0.0, 0.005))


@contextmanager
def in_memory(fleets: dict[str, Fleet], rng: random.Random) -> Iterator[None]:
    """Within it each URL of a database is one of `fleets`."""

    def open_fleet(url: str, **_: Any) -> Fleet:
        return fleets.setdefault(url, Fleet(rng))

    async def write(fleet: Fleet, items: Sequence[Item]) -> None:
        await fleet.write(items)

    async def nothing(*_: Any) -> None: ...

    with ExitStack() as stack:
        stack.enter_context(patch.object(fleet_feed, "Database", open_fleet))
        stack.enter_context(patch.object(fleet_feed, "FleetReader", lambda fleet: fleet))
        stack.enter_context(patch.object(recorder, "write", write))
        for name in ("redate", "upkeep", "bound"):
            stack.enter_context(patch.object(recorder, name, nothing))
        yield
