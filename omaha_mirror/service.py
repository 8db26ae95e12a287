"""The running mirror: the parts of `composition`, its servers upstream, its machines and its metrics."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import in_worker, keep_running, log_failure
from omaha_mirror.bundle import Exporter
from omaha_mirror.cache import Scrubber
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.catalog import LookupRequest, LookupResult, PackageFile
from omaha_mirror.composition import Parts
from omaha_mirror.config import Address, Config
from omaha_mirror.config.changes import adopted
from omaha_mirror.config.rules import Pin
from omaha_mirror.observability import findings, wiring
from omaha_mirror.observability.fleet_feed import FleetFeed
from omaha_mirror.observability.health import Finding
from omaha_mirror.observability.observers import Observer
from omaha_mirror.packages.library import PackageLibrary, PublicPackages
from omaha_mirror.packages.payload_prover import keys_in
from omaha_mirror.packages.prefetch import Prefetch
from omaha_mirror.packages.source import expected
from omaha_mirror.packages.warm_up import WarmUp
from omaha_mirror.policy.omaha_upstream import OmahaUpstream
from omaha_mirror.policy.updatecheck import CheckDecisions
from omaha_mirror.state_file import make_folder
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.release_server import ReleaseServer
from omaha_mirror.upstream.requests import settings_of


class Service(Parts):
    """Everything behind the listeners.

    Args:
        config: of the mirror.
        clock: tells the time.
        rng: for jitter.
    """

    def __init__(
        self, config: Config, clock: Clock | None = None, rng: random.Random | None = None
    ) -> None:
        up, clock, rng = config.upstream, clock or Clock(), rng or random.Random()
        self.fleet_feed = FleetFeed(config.fleet_database, config.fleet.retention, clock)
        self.observer = Observer(self.fleet_feed.recorder.put, clock)
        self.metrics = self.observer.metrics
        settings = settings_of(up)
        self._fetcher = HttpFetcher(settings, clock)
        self._releases = ReleaseServer(self._fetcher, up.release_url)
        self.omaha_upstream = OmahaUpstream(
            config,
            self._fetcher,
            settings.allowed,
            self.observer.on_follow_event,
            self.observer.on_upstream_failure,
            clock,
            rng,
        )
        plan = self.omaha_upstream.following(config)
        on_event = self.observer.on_cache_event
        super().__init__(config, clock, self._learn, plan, hook=on_event, rng=rng)
        self._library = PackageLibrary(self.cache, self._fetcher, rng, clock)
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
        self._scrubber = Scrubber(self.verifier, self.cache, self.observer.on_scrubbed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._proving: asyncio.Task[None] | None = None
        self._lock: DirectoryLock | None = None
        self._answer_machines()
        self._observe()

    def _answer_machines(self) -> None:
        """Make what the public listener asks: decisions and packages."""
        app_ids = self.config.upstream.app_ids
        self.decisions = CheckDecisions(
            self.catalog,
            self.rules,
            self.availability.step,
            app_ids,
            lambda: self.config.upstream.forward_events,
            self.clock,
        )
        self.packages = PublicPackages(
            self.catalog,
            self._library,
            self._prefetch,
            app_ids,
            self._pins,
            lambda: self.config.release_layout != "off",
        )

    def _observe(self) -> None:
        """Make what the admin listener shows: health and metrics."""
        self._listeners: dict[str, Callable[[], int]] = {}
        self._checks: list[Callable[[], Iterable[Finding]]] = [
            self.fleet_feed.findings,
            lambda: findings.overrides(self.overrides),
            lambda: findings.clock(self.clock),
        ]
        self.examine = wiring.wire(
            self.config,
            self.metrics,
            self.availability,
            self.tracks,
            self.cache,
            self._ledger,
            held=lambda directory: self._lock is None or self._lock.holds(directory),
            redirects=self._fetcher.refusals.reasons,
            also=lambda: [found for check in self._checks for found in check()],
            connections=lambda: {name: count() for name, count in self._listeners.items()},
            queues=lambda: {**self.omaha_upstream.queues(), "fleet": self.fleet_feed.recorder},
        )

    def add_listener(self, name: str, connections: Callable[[], int]) -> None:
        """Add a listener to the metrics; `connections` gives the number of its connections."""
        self._listeners[name] = connections

    def add_check(self, check: Callable[[], Iterable[Finding]]) -> None:
        """Add a check to /readyz; it must not wait."""
        self._checks.append(check)

    async def start(self) -> None:
        """Open what is on disk, and start the work in the background. Raises what `open` raises."""
        await self.open()
        self._spawn(keep_running(self._clock_file.run, "checking the clock"))
        self._spawn(keep_running(self._scrubber.run, "reading packages again"))
        self._proving = self._spawn(self._prove_again())
        await self._prefetch.start()
        await self.omaha_upstream.open()
        self.decisions.upstream = self.omaha_upstream.upstream
        self.fleet_feed.start()

    async def open(self) -> None:
        """Lock the directories, and read what is on disk.

        Raises:
            DirectoryInUse: another process has one of them.
            OSError: with the path that cannot be used.
        """
        for directory in (self.config.cache.directory, self.config.state_directory):
            make_folder(directory)
        self._lock = DirectoryLock(self.config.cache.directory, self.config.state_directory)
        try:
            await self._clock_file.start()
            await self.overrides.start()
            await self.cache.start()
            await self.catalog.start()
        except BaseException:
            self._unlock()
            raise

    async def close(self) -> None:
        """Stop all work, interrupt fills, and write what must survive."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            await self._prefetch.close()
            await self.cache.close()
            await self.catalog.close()
            await self.omaha_upstream.close()
            await self._clock_file.save()
            self._unlock()
        await self.fleet_feed.close()
        await self.examine.close()
        await self._fetcher.close()

    def publish_admin_address(self, admin: Address) -> None:
        """Write the admin listener's address to the lock file, for commands."""
        if self._lock is not None:
            self._lock.tell(str(admin))

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def change(self, config: Config) -> None:
        """Apply those keys of another config that need no restart."""
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
        """Verify offered packages that other keys proved with the keys of this config, before a machine asks for one."""
        for file in [file for release in self.offered.releases() for file in release.files]:
            with suppress(CacheError, OSError):  # the cache reports the result as an event
                if not self._library.holds(file) and await self._is_complete(file):
                    await self._library.fetch(file)

    async def _is_complete(self, file: PackageFile) -> bool:
        """Whether the disk has all bytes of a package, proven or not."""
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
