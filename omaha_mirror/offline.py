"""A stopped mirror: the parts of a running one over its directories, so that commands judge releases and packages alike.

It sends nothing to upstream, and answers no machine.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Self

from omaha_mirror.aio.clock import Clock
from omaha_mirror.bundle import Exporter
from omaha_mirror.bundle.files import read_file
from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.catalog import LookupRequest, LookupResult, PackageFile, Reason, at_hand
from omaha_mirror.catalog.catalog_file import load
from omaha_mirror.composition import Parts
from omaha_mirror.config import Config
from omaha_mirror.packages.source import expected
from omaha_mirror.policy.omaha_upstream import plan_of


class Offline(Parts):
    """The parts of a stopped mirror; `looking`, `cleaning` and `working` read its directories."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, Clock(), self._learn, plan_of(config), rng=random.Random())
        self.exporter = Exporter(
            self.catalog,
            self.tracks,
            self.rules,
            config.upstream.app_ids,
            self._holds,
            lambda member, start: read_file(self._store.path(expected(member.file).key), start),
        )

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Self]:
        """Read the directories and change no file, as another user may run this. Raises Damaged, OSError."""
        await self._read()
        for stored in self._store.stored(signed=False):
            self._ledger.settle(stored.key, stored.size, stored.last_used)
        yield self

    @asynccontextmanager
    async def cleaning(self) -> AsyncIterator[Self]:
        """Lock and open the cache, and read the state. Raises Damaged, DirectoryInUse, OSError."""
        await self._read()
        with closing(DirectoryLock(self.config.cache.directory)):
            await self.cache.start()
            yield self

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Self]:
        """Lock and open cache and state; damaged files are put aside, as at a start. Raises DirectoryInUse, OSError."""
        config = self.config
        with closing(DirectoryLock(config.cache.directory, config.state_directory)):
            await self._clock_file.start()
            await self.overrides.start()
            await self.cache.start()
            await self.catalog.start()
            try:
                yield self
            finally:
                await self.cache.close()
                await self.catalog.close()

    async def _read(self) -> None:
        await self._clock_file.start()
        await self.overrides.look()
        self.catalog.restore(load(self.config.state_directory / "catalog.json"))

    def _holds(self, file: PackageFile) -> bool:
        return self.cache.holds(expected(file).key)

    async def _learn(self, wanted: LookupRequest) -> LookupResult:
        if wanted.imported and wanted.upstream is not None:
            return at_hand(wanted, wanted.upstream, self._holds)
        return LookupResult(reason=Reason.UNREACHABLE, detail="the mirror does not run")
