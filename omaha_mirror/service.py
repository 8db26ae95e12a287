"""The composition root: from config to a running service. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress

from omaha_mirror.aio.clock import Clock, ClockFile
from omaha_mirror.aio.tasks import in_worker, keep_running, log_failure
from omaha_mirror.bundle import Exporter, Importer
from omaha_mirror.cache import (
    Cache,
    DiskStore,
    FetchScheduler,
    Ledger,
    Limits,
    Scrubber,
    Verifier,
)
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.catalog import Catalog, LookupRequest, LookupResult, PackageFile
from omaha_mirror.config import Address, Config
from omaha_mirror.config.changes import adopted
from omaha_mirror.config.rules import Pin
from omaha_mirror.observability import findings, wiring
from omaha_mirror.observability.fleet_feed import FleetFeed
from omaha_mirror.observability.health import Finding
from omaha_mirror.observability.observers import Observer
from omaha_mirror.packages.library import PackageLibrary, PublicPackages
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.payload_prover import PayloadProvers, keys_in
from omaha_mirror.packages.prefetch import Prefetch
from omaha_mirror.packages.source import expected
from omaha_mirror.packages.warm_up import WarmUp
from omaha_mirror.policy.availability import Availability
from omaha_mirror.policy.check_decision import CheckDecisions
from omaha_mirror.policy.omaha_upstream import OmahaUpstream
from omaha_mirror.policy.track_rules import Overrides, TrackRules
from omaha_mirror.policy.tracks import Tracks
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.releases import ReleaseServer
from omaha_mirror.upstream.requests import HttpSettings


class Service:
    """Everything behind the listeners.

    Args:
        config: of the mirror.
        clock: tells the time of day.
        rng: decides how long is waited before another try, and the like.
    """

    def __init__(
        self, config: Config, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self._clock_file = ClockFile(self.clock, config.state_directory / "clock.json")
        self.fleet_feed = FleetFeed(config.fleet_database, config.fleet.retention, self.clock)
        self.observer = Observer(self.fleet_feed.recorder.put, self.clock)
        self.metrics = self.observer.metrics
        self.overrides = Overrides(config.state_directory / "overrides.json", self.clock)
        self.rules = TrackRules(config, self.overrides)
        up = config.upstream
        rng = rng or random.Random()
        allowed = AllowList(*up.allowed)
        self._fetcher = HttpFetcher(
            HttpSettings(
                allowed=allowed,
                connect_timeout=up.connect_timeout,
                stall_timeout=up.stall_timeout,
                ca_file=up.ca_file,
                proxy=up.proxy,
            ),
            self.clock,
        )
        self._releases = ReleaseServer(self._fetcher, up.release_url)
        self.omaha_upstream = OmahaUpstream(
            config,
            self._fetcher,
            allowed,
            self.observer.on_follow_event,
            self.observer.on_upstream_failure,
            self.clock,
            rng,
        )
        self.catalog = Catalog(
            self._learn,
            config.state_directory / "catalog.json",
            up.payload_name,
            self.omaha_upstream.following(config),
            clock=self.clock,
            rng=rng,
            led=lambda: self.offered.led(),  # noqa: PLW0108 (made below)
        )
        self.offered = Offered(self.catalog, self.rules, up.app_ids, self.clock)
        self._provers = PayloadProvers(keys_in(up.key_files), self.offered.is_delta)
        self._store = DiskStore(config.cache.directory, self.clock)
        self._ledger = Ledger(config.cache.max_size, config.cache.min_free)
        self.cache = Cache(
            self._store,
            self._ledger,
            self.clock,
            limits=Limits(max_connections=up.max_connections),
            scheduler=FetchScheduler(up.rate_limit, up.max_fills),
            hold_back=config.cache.hold_back,
            when_abandoned=config.cache.when_abandoned,
            hook=self.observer.on_cache_event,
            keep=self.offered,
            provers=self._provers,
        )
        self.availability = Availability(self.cache, self.offered)
        self.tracks = Tracks(
            self.catalog, self.rules, self.availability.step, up.app_ids, self.clock
        )
        self._library = PackageLibrary(self.cache, self._fetcher, rng, self.clock)
        self._prefetch = Prefetch(self.catalog, self.offered, self.cache, self._library.fetch)
        self.warm_up = WarmUp(self.catalog, self.tracks, self.rules, self._prefetch, up.app_ids)
        self.exporter = Exporter(
            self.catalog,
            self.tracks,
            self.rules,
            up.app_ids,
            self._library.holds,
            lambda member, start: self._library.chunks(member.file, start),
            self._prefetch.have,
        )
        self.importer = Importer(self.cache, self.catalog, up.app_ids)
        self.decisions = CheckDecisions(
            self.catalog,
            self.rules,
            self.availability.step,
            up.app_ids,
            lambda: self.config.upstream.forward_events,
            self.clock,
        )
        self.packages = PublicPackages(
            self.catalog,
            self._library,
            self._prefetch,
            up.app_ids,
            self._pins,
            lambda: self.config.release_layout != "off",
        )
        self.verifier = Verifier(self.cache, self._store)
        self._scrubber = Scrubber(self.verifier, self.cache, self.observer.on_scrubbed)
        self._listeners: dict[str, Callable[[], int]] = {}
        self._checks: list[Callable[[], Iterable[Finding]]] = [
            self.fleet_feed.findings,
            lambda: findings.overrides(self.overrides),
            lambda: findings.clock(self.clock),
        ]
        self.examine = wiring.wire(
            config,
            self.metrics,
            self.availability,
            self.tracks,
            self.cache,
            self._ledger,
            redirects=self._fetcher.refusals.reasons,
            also=lambda: [found for check in self._checks for found in check()],
            connections=lambda: {name: count() for name, count in self._listeners.items()},
            queues=lambda: {**self.omaha_upstream.queues(), "fleet": self.fleet_feed.recorder},
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._proving: asyncio.Task[None] | None = None
        self._lock: DirectoryLock | None = None

    def listens(self, name: str, connections: Callable[[], int]) -> None:
        """Told of a listener, and how to ask for the number of its connections."""
        self._listeners[name] = connections

    def examined_by(self, check: Callable[[], Iterable[Finding]]) -> None:
        """Told of a check that does not wait, for /readyz."""
        self._checks.append(check)

    async def start(self) -> None:
        """Open what is on disk, and begin what goes on in the background. Raises what `open` raises."""
        await self.open()
        self._spawn(keep_running(self._clock_file.run, "looking at the clock"))
        self._spawn(keep_running(self._scrubber.run, "reading packages again"))
        self._proving = self._spawn(self._prove_again())
        await self._prefetch.start()
        await self.omaha_upstream.open()
        self.decisions.upstream = self.omaha_upstream.upstream
        self.fleet_feed.start()

    async def open(self) -> None:
        """Take the directories, and open what is on disk.

        Raises:
            DirectoryInUse: another process has one of them.
            OSError: with the path that cannot be used.
        """
        for directory in (self.config.cache.directory, self.config.state_directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(self.config.cache.directory, self.config.state_directory)
        try:
            await self._clock_file.start()
            await self.overrides.start()
            await self.cache.start()
            await self.catalog.start()
        except BaseException:
            self._let_go()
            raise

    async def close(self) -> None:
        """Stop what goes on, fills where they are, and write down what must survive."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            await self._prefetch.close()
            await self.cache.close()
            await self.catalog.close()
            await self.omaha_upstream.close()
            await self._clock_file.save()
            self._let_go()
        await self.fleet_feed.close()
        await self.examine.close()
        await self._fetcher.close()

    def reached_at(self, admin: Address) -> None:
        """Write down for other processes where the admin listener is."""
        if self._lock is not None:
            self._lock.tell(str(admin))

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def change(self, config: Config) -> None:
        """Take over what can be taken over of another config while everything goes on."""
        self.config = config = adopted(self.config, config)
        self.rules.change(config)
        self._provers.keys = keys_in(config.upstream.key_files)
        self._proving = self._spawn(self._prove_again())
        self.cache.scheduler.change(config.upstream.rate_limit, config.upstream.max_fills)
        self._ledger.max_size = config.cache.max_size
        self._ledger.min_free = config.cache.min_free
        self.catalog.change(self.omaha_upstream.following(config))

    def _pins(self, version: str) -> list[Pin]:
        rules = map(self.rules, (*sorted(self.rules.named()), ""))
        return [rule for rule in rules if isinstance(rule, Pin) and rule.version == version]

    # Keys

    async def _prove_again(self) -> None:
        """Hold what is here, and was proven by other keys, against those that count now: before a machine asks for it."""
        for file in [file for release in self.offered.releases() for file in release.files]:
            with suppress(CacheError, OSError):  # what came of it is an event of the cache
                if not self._library.holds(file) and await self._is_all_here(file):
                    await self._library.fetch(file)

    async def _is_all_here(self, file: PackageFile) -> bool:
        """Whether the disk has a whole package, proven or not."""
        key = expected(file).key
        return key in self._ledger.entries or await in_worker(self._store.begun, key) >= file.size

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)
        return task

    # Upstream

    async def _learn(self, wanted: LookupRequest) -> LookupResult:
        if wanted.imported and self._proving is not None:
            await asyncio.wait([self._proving])
        return await self._library.learn(wanted, self._releases)
