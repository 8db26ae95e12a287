"""A mirror that does not run: the same parts over its directories, so that it judges what is here as if it ran.

It asks upstream nothing and answers no machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Self

from omaha_mirror.aio.clock import Clock, ClockFile
from omaha_mirror.bundle import Exporter, Importer
from omaha_mirror.bundle.files import read_file
from omaha_mirror.cache import Cache, DiskStore, Ledger, Verifier
from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.catalog import Catalog, LookupRequest, LookupResult, PackageFile, Reason, at_hand
from omaha_mirror.catalog.state import load
from omaha_mirror.config import Config
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.payload_prover import PayloadProvers, keys_in
from omaha_mirror.packages.source import expected
from omaha_mirror.policy.availability import Availability
from omaha_mirror.policy.omaha_upstream import plan_of
from omaha_mirror.policy.track_rules import Overrides, TrackRules
from omaha_mirror.policy.tracks import Tracks


class Offline:
    """The parts; what is on disk is read by `looking`, `cleaning` and `working`."""

    def __init__(self, config: Config) -> None:
        up, state = config.upstream, config.state_directory
        keys = keys_in(up.key_files)
        self.config = config
        self.clock = Clock()
        self.overrides = Overrides(state / "overrides.json", self.clock)
        self.rules = TrackRules(config, self.overrides)
        self.catalog = Catalog(
            self._learn,
            state / "catalog.json",
            up.payload_name,
            plan_of(config),
            clock=self.clock,
            led=lambda: self.offered.led(),  # noqa: PLW0108 (made below)
        )
        self.offered = Offered(self.catalog, self.rules, up.app_ids, self.clock)
        self._store = DiskStore(config.cache.directory, self.clock)
        self._ledger = Ledger(config.cache.max_size, config.cache.min_free)
        self.cache = Cache(
            self._store,
            self._ledger,
            self.clock,
            hold_back=config.cache.hold_back,
            keep=self.offered,
            provers=PayloadProvers(keys, self.offered.is_delta),
        )
        self.tracks = Tracks(
            self.catalog,
            self.rules,
            Availability(self.cache, self.offered).step,
            up.app_ids,
            self.clock,
        )
        self.verifier = Verifier(self.cache, self._store)
        self.exporter = Exporter(
            self.catalog,
            self.tracks,
            self.rules,
            up.app_ids,
            self._holds,
            lambda member, start: read_file(self._store.path(expected(member.file).key), start),
        )
        self.importer = Importer(self.cache, self.catalog, up.app_ids)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Self]:
        """Read what is there; no file is changed: it may be another user who looks. Raises Damaged, OSError."""
        await self._read()
        for stored in self._store.stored():
            self._ledger.settle(stored.key, stored.size, stored.last_used)
        yield self

    @asynccontextmanager
    async def cleaning(self) -> AsyncIterator[Self]:
        """The same, to work on the cache alone. Raises Damaged, DirectoryInUse, OSError."""
        await self._read()
        with closing(DirectoryLock(self.config.cache.directory)):
            await self.cache.start()
            yield self

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Self]:
        """Work on all of it; what is damaged is put aside, as at a start. Raises DirectoryInUse, OSError."""
        config = self.config
        with closing(DirectoryLock(config.cache.directory, config.state_directory)):
            await ClockFile(self.clock, config.state_directory / "clock.json").start()
            await self.overrides.start()
            await self.cache.start()
            await self.catalog.start()
            try:
                yield self
            finally:
                await self.cache.close()
                await self.catalog.close()

    async def _read(self) -> None:
        state = self.config.state_directory
        await ClockFile(self.clock, state / "clock.json").start()
        await self.overrides.look()
        self.catalog.restore(load(state / "catalog.json"))

    def _holds(self, file: PackageFile) -> bool:
        return self.cache.holds(expected(file).key)

    async def _learn(self, wanted: LookupRequest) -> LookupResult:
        if wanted.imported and wanted.told is not None:
            return at_hand(wanted, wanted.told, self._holds)
        return LookupResult(reason=Reason.UNREACHABLE, detail="the mirror does not run")
