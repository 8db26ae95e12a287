"""The parts that a running mirror and a stopped one's directories share, made from the config in one place."""

from __future__ import annotations

import random

from omaha_mirror.aio.clock import Clock, ClockFile
from omaha_mirror.bundle import Importer
from omaha_mirror.cache import Cache, DiskStore, FetchScheduler, Ledger, Limits, Verifier
from omaha_mirror.cache.events import Hook
from omaha_mirror.catalog import Catalog
from omaha_mirror.catalog.followed import FollowPlan
from omaha_mirror.catalog.lookup import Learn
from omaha_mirror.config import Config
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.payload_prover import PayloadProvers, keys_in
from omaha_mirror.policy.availability import Availability
from omaha_mirror.policy.track_rules import Overrides, TrackRules
from omaha_mirror.policy.tracks import Tracks


class Parts:
    """What both judge by: rules, catalog, cache, and where tracks lead.

    Args:
        config: of the mirror.
        clock: tells the time.
        learn: settles a version that the catalog looks up.
        plan: how tracks are followed.
        hook: called with each event of the cache.
        rng: for jitter.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        learn: Learn,
        plan: FollowPlan,
        *,
        hook: Hook = lambda _event: None,
        rng: random.Random,
    ) -> None:
        up, state = config.upstream, config.state_directory
        self.config = config
        self.clock = clock
        self._clock_file = ClockFile(clock, state / "clock.json")
        self.overrides = Overrides(state / "overrides.json", clock)
        self.rules = TrackRules(config, self.overrides)
        self.catalog = Catalog(
            learn,
            state / "catalog.json",
            up.payload_name,
            plan,
            clock=clock,
            rng=rng,
            led=lambda: self.offered.led(),  # noqa: PLW0108 (made below)
        )
        self.offered = Offered(self.catalog, self.rules, up.app_ids, clock)
        self._provers = PayloadProvers(keys_in(up.key_files), self.offered.is_delta)
        self._store = DiskStore(config.cache.directory, clock)
        self._ledger = Ledger(config.cache.max_size, config.cache.min_free)
        self.cache = self._new_cache(hook)
        self.availability = Availability(self.cache, self.offered)
        self.tracks = Tracks(self.catalog, self.rules, self.availability.step, up.app_ids, clock)
        self.verifier = Verifier(self.cache, self._store)
        self.importer = Importer(self.cache, self.catalog, up.app_ids)

    def _new_cache(self, hook: Hook) -> Cache:
        cache, up = self.config.cache, self.config.upstream
        return Cache(
            self._store,
            self._ledger,
            self.clock,
            limits=Limits(max_connections=up.max_connections),
            scheduler=FetchScheduler(up.rate_limit, up.max_fills),
            hold_back=cache.hold_back,
            when_abandoned=cache.when_abandoned,
            hook=hook,
            keep=self.offered,
            provers=self._provers,
        )
