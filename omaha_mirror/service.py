"""The composition root: from config to a running service. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from omaha_mirror.cache import (
    Cache,
    DiskStore,
    Expected,
    Ledger,
    Limits,
    Line,
    Reader,
    Scrubber,
    Source,
    Upkeep,
    Verdict,
    events,
)
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.cache.upkeep import Outcome
from omaha_mirror.catalog import (
    CannotProve,
    Catalog,
    Decision,
    Known,
    PackageFile,
    Reason,
    Rule,
    Wanted,
    decide,
    learn,
)
from omaha_mirror.config import Address, Config, Hold, Pin
from omaha_mirror.expect import expected
from omaha_mirror.omaha import AppRequest, Digest
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher, HttpSettings
from omaha_mirror.upstream.releases import ReleaseServer, RemotePackage
from omaha_mirror.upstream_source import UpstreamSource

LOG = structlog.get_logger(__name__)
FIRST_ANSWER = 5.0
"""Seconds that a check may wait for a release to be learnt; after that it is `noupdate`, and learnt on."""
FIRST_FILE = 20.0


@dataclass(slots=True)
class Totals:
    """What went over the line and to the machines since the start, in bytes."""

    fetched: int = 0
    served: int = 0


class Service:
    """Everything behind the listeners."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.public_url = config.public_url
        self.totals = Totals()
        up = config.upstream
        self._rng = random.Random()
        self._fetcher = HttpFetcher(
            HttpSettings(
                allowed=AllowList(*up.allowed),
                connect_timeout=up.connect_timeout,
                stall_timeout=up.stall_timeout,
                ca_file=up.ca_file,
                proxy=up.proxy,
            )
        )
        self._releases = ReleaseServer(self._fetcher, up.release_url)
        self.catalog = Catalog(
            self._learn, config.state_directory / "catalog.json", up.payload_name
        )
        store = DiskStore(config.cache.directory)
        self.cache = Cache(
            store,
            Ledger(config.cache.max_size, config.cache.min_free),
            limits=Limits(max_connections=up.max_connections),
            line=Line(up.rate_limit, up.max_fills),
            hold_back=config.cache.hold_back,
            when_abandoned=config.cache.when_abandoned,
            hook=self._happened,
            keep=self._is_offered,
        )
        self.upkeep = Upkeep(self.cache, store)
        self._scrubber = Scrubber(self.upkeep, self.cache, self._verified)
        self._scrubbing: asyncio.Task[None] | None = None
        self._lock: DirectoryLock | None = None

    async def start(self) -> None:
        """Open what is on disk, and begin what goes on in the background. Raises what `open` raises."""
        await self.open()
        self._scrubbing = asyncio.create_task(self._scrubber.run())

    async def open(self) -> None:
        """Take the cache directory, and open what is on disk.

        Raises:
            DirectoryInUse: another process has it.
            OSError: with the path that cannot be used.
        """
        for directory in (self.config.cache.directory, self.config.state_directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(self.config.cache.directory)
        try:
            await self.cache.start()
            await self.catalog.start()
        except BaseException:
            self._let_go()
            raise

    async def close(self) -> None:
        """Stop what goes on, fills where they are, and write down what must survive."""
        if self._scrubbing is not None:
            self._scrubbing.cancel()
            await asyncio.wait([self._scrubbing])
        if self._lock is not None:
            await self.cache.close()
            await self.catalog.close()
            self._let_go()
        await self._fetcher.close()

    def reached_at(self, admin: Address) -> None:
        """Write down for other processes where the admin listener is."""
        if self._lock is not None:
            self._lock.tell(str(admin))

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def change_limits(self, config: Config) -> None:
        """Apply another config's bounds of the line, to what is being fetched too."""
        self.cache.line.change(config.upstream.rate_limit, config.upstream.max_fills)

    # What a machine is told

    async def decide(self, app: AppRequest) -> Decision:
        """What to tell a machine; asks upstream first where nothing is known yet."""
        rule = self.rule(app.track)
        decision = self._decide(app, rule)
        if rule.version is not None and decision.reason in _LOOK_UP:
            wait = FIRST_ANSWER if decision.reason is Reason.WARMING else 0.0
            await self.catalog.look_up(app.app_id, app.board, rule, app.oem, wait)
            if decision.release is None:
                decision = self._decide(app, rule)
        return decision

    def rule(self, track: str) -> Rule:
        """The rule of a track, as the catalog takes it."""
        match self.config.track(track):
            case Hold():
                return Rule()
            case Pin(version=version, packages=packages, allow_downgrade=downgrade):
                return Rule(version, packages, downgrade)

    def _decide(self, app: AppRequest, rule: Rule) -> Decision:
        known = self.catalog.known(app.app_id, app.board, rule.version) if rule.version else None
        return decide(app, rule, self._judged(known), app_ids=self.config.upstream.app_ids)

    def _judged(self, known: Known | None) -> Known | None:
        """A release whose bytes keep turning out wrong is not offered until they are good."""
        if known is None or known.release is None:
            return known
        wrong = self.cache.condemned(expected(known.release.payload).key)
        if wrong is None:
            return known
        return replace(known, release=None, reason=Reason.PAYLOAD_WRONG, detail=wrong)

    # Package bytes

    @contextmanager
    def read(self, file: PackageFile, start: int, stop: int) -> Iterator[Reader]:
        """Read a package through the cache; see `Cache.read`."""
        source = self._source(file.url, file.size, known=file.sha256 or file.sha1)
        with self.cache.read(expected(file), source, start, stop) as reader:
            yield reader

    def package(self, release: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""
        return self.catalog.package(release, name)

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a path of the release server's layout got other bytes within a day."""
        return self.catalog.changed_recently(board, version, name)

    def served(self, count: int) -> None:
        """Count bytes that went to a machine."""
        self.totals.served += count

    async def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server; learns a pinned release on the first demand."""
        if self.config.release_layout == "off":
            return None
        found = self.catalog.layout_file(board, version, name)
        if found is not None:
            return found
        oem = name.removeprefix("oem-").removesuffix(".gz") if name.startswith("oem-") else ""
        for rule in self._pins(version):
            for app_id in self.config.upstream.app_ids:
                await self.catalog.look_up(app_id, board, rule, oem, FIRST_FILE)
        return self.catalog.layout_file(board, version, name)

    def _pins(self, version: str) -> list[Rule]:
        tracks = (*self.config.tracks, "")
        return [rule for rule in map(self.rule, tracks) if rule.version == version]

    def _source(self, url: str, size: int, *, known: Digest | None) -> Source:
        return UpstreamSource(self._fetcher, url, size, self._rng, known=known is not None)

    # Learning

    async def _learn(self, wanted: Wanted) -> Known:
        return await learn(wanted, self._releases, self._prove, time.time())

    async def _prove(self, package: RemotePackage) -> Digest:
        """Fetch a package of which nobody tells a digest: what arrives whole under one validator counts."""
        unnamed = Expected(package.size, source=package.url)
        try:
            proof = await self.cache.fetch(
                unnamed, self._source(package.url, package.size, known=None)
            )
        except (CacheError, OSError) as error:
            raise CannotProve(f"{package.url}: {error}") from error
        if proof is None:
            raise CannotProve(f"{package.url} was there without being proven")
        return Digest("sha256", proof.sha256)

    # Telling

    def _is_offered(self, key: str) -> bool:
        return any(
            expected(file).key == key
            for release in self.catalog.current()
            for file in release.files
        )

    def _happened(self, event: events.Event) -> None:
        match event:
            case events.FillStarted():
                LOG.info(
                    "fill started", source=event.source, size=event.size, resumed=event.resumed
                )
            case events.Trouble():
                LOG.warning(
                    "upstream trouble",
                    source=event.source,
                    position=event.position,
                    reason=event.reason,
                    again_in=round(event.pause, 2),
                )
            case events.FillEnded():
                self.totals.fetched += event.fetched
                say = LOG.info if event.outcome is events.Outcome.PROVEN else LOG.warning
                say(
                    "fill ended",
                    source=event.source,
                    outcome=event.outcome.value,
                    fetched=event.fetched,
                    seconds=round(event.seconds, 3),
                    reason=event.reason,
                )
            case events.NotKept():
                LOG.error("passes through unkept", source=event.source, reason=event.reason)
            case events.Rotten():
                LOG.error("a blob rotted; it was put aside", key=event.key, reason=event.reason)
            case events.Evicted():
                LOG.info("evicted", key=event.key, size=event.size)
            case _:
                pass

    def _verified(self, verdict: Verdict) -> None:
        if verdict.outcome is Outcome.UNKNOWN:
            LOG.warning("cannot verify", key=verdict.key, reason=verdict.reason)


_LOOK_UP = {
    Reason.WARMING,
    Reason.OFFERED,
    Reason.NOT_RELEASED,
    Reason.UNREACHABLE,
    Reason.INCOMPLETE,
    Reason.PAYLOAD_WRONG,
}
"""Decisions that rest on what upstream said: it is asked again when that is no longer fresh."""
