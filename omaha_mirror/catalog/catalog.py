"""The catalog: the known releases, and where tracks lead. Every offer and every package path is looked up in it.

The package set of a release is fixed and on disk before the first offer; another set is another release.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import in_slices
from omaha_mirror.catalog.catalog_file import ReleaseKey, key_of, versions
from omaha_mirror.catalog.channel import ChannelKey, ChannelStatus, status
from omaha_mirror.catalog.channels import Channels, ImportedRelease, Imports
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.followed import ASK_NOTHING, FollowPlan
from omaha_mirror.catalog.known_releases import KnownReleases, UpstreamReleases
from omaha_mirror.catalog.learn import LookupRequest
from omaha_mirror.catalog.lookup import Learn, Lookups
from omaha_mirror.catalog.model import (
    BOARDS,
    OEM_PACKAGES,
    LookupResult,
    PackageFile,
    Release,
    Step,
    needed_packages,
)
from omaha_mirror.catalog.pinned_questions import ASK_FIRST, Pinned
from omaha_mirror.catalog.storage import Storage
from omaha_mirror.config.rules import Pin, Rule
from omaha_mirror.reasons import Reason

FIRST_FILE = 20.0
"""Seconds that a request on the release layout waits for the look-up of its version."""
CONFIRMED = 10.0
"""Seconds that a sync waits for packages to be confirmed."""


class Catalog:
    """Releases by path, the result of each look-up, and where upstream leads each track.

    Args:
        learn: settles a version.
        path: of `catalog.json`.
        payload: upstream's file name of the payload.
        following: how tracks are followed.
        clock: tells the time.
        rng: for jitter.
        led: gives the versions that tracks lead to under the rules in force.
    """

    def __init__(
        self,
        learn: Learn,
        path: Path,
        payload: str,
        following: FollowPlan = ASK_NOTHING,
        *,
        clock: Clock | None = None,
        rng: random.Random,
        led: Callable[[], Collection[ReleaseKey]] = frozenset,
    ) -> None:
        self._led = led
        self._payload = payload
        self._clock = clock or Clock()
        self._known_releases = KnownReleases(self._clock, self._changed)
        self.package = self._known_releases.package
        self.changed_recently = self._known_releases.changed_recently
        self._follower = Follower(following, self._learnt, self._changed, self._clock, rng)
        self._imports = Imports()
        self._channels = Channels(self._follower, self._imports)
        self._upstream = UpstreamReleases()
        self._lookups = Lookups(
            learn, self._wanted, self._settle, self._leads, self._changed, self._clock
        )
        self._pinned = Pinned(self._follower, self._upstream)
        self._closed = False
        self._storage = Storage(
            path,
            self._clock,
            self._changed,
            self._known_releases,
            self._upstream,
            self._follower,
            self._imports,
            self._lookups,
        )
        self.restore = self._storage.restore

    async def start(self) -> None:
        """Read the file. A damaged one is renamed and logged."""
        self._storage.restore(await self._storage.writer.read())

    async def close(self) -> None:
        """Stop asking upstream, and write the file, for the times of last use."""
        self._closed = True
        await self._follower.close()
        await self._pinned.close()
        await self._lookups.close()
        await self._storage.writer.close()

    def change(self, following: FollowPlan) -> None:
        """Follow tracks by another plan from now on."""
        self._follower.change(following)
        self._changed()

    # Look-ups and channels

    @property
    def changes(self) -> int:
        """A number that grows when a track may lead to another version, or a release may be new or gone."""
        self._storage.rebase()
        return self._channels.changes

    def _changed(self) -> None:
        self._channels.changed()

    def tracks(self) -> set[str]:
        """The tracks of all channels, followed or imported."""
        return {item.key.track for item in self._channels.kept()}

    def steps(self, app_id: str, board: str, track: str, rule: Rule) -> tuple[Step, ...]:
        """Where a track with this rule leads, as `leads_to` takes it, without asking upstream. For a relayed machine see `step`."""
        self._storage.rebase()
        steps = self._channels.steps(app_id, board, track, rule)
        known = self._known
        return tuple([Step(s.version, known(app_id, board, s), s.floor, s.seen) for s in steps])

    def step(self, app_id: str, board: str, version: str, name: str = "") -> Step:
        """The version that upstream offered one relayed machine, as its only step. It counts as a use.

        `name` is its name in a `ReleaseKey`, if that is not the version.
        """
        return Step(version, self.known(app_id, board, name or version) or LookupResult())

    def nothing(self, app_id: str, board: str, track: str) -> tuple[Reason, str]:
        """Why a followed track has no steps, as a reason and its detail."""
        return self._follower.nothing(ChannelKey(app_id, board, track))

    def known(self, app_id: str, board: str, version: str) -> LookupResult | None:
        """The result of the last look-up of a version; None before the first. It counts as a use of its release."""
        known = self._lookups.known(ReleaseKey(app_id, board, version))
        if known is not None and known.release is not None:
            self._known_releases.use(known.release)
        return known

    async def channels(self, judged: Callable[[Step], Step]) -> list[ChannelStatus]:
        """The status of all channels; `judged` adds to a step what the cache knows of its bytes."""
        self._storage.rebase()
        nothing, trouble, now = self._follower.nothing, self._follower.trouble, self._clock.time()
        return await in_slices(
            status(k, partial(self._judged, judged, k.key), nothing(k.key), trouble(k.key), now)
            for k in self._channels.shown()
        )

    def looked_up(self, release: Release) -> frozenset[str]:
        """The names of a release's extra packages that machines of this site need."""
        return self._lookups.names(key_of(release))

    def _known(self, app_id: str, board: str, step: Step) -> LookupResult:
        return self._lookups.known(ReleaseKey(app_id, board, step.version)) or LookupResult()

    def _judged(self, judged: Callable[[Step], Step], key: ChannelKey, step: Step) -> LookupResult:
        known = self._known(key.app_id, key.board, step)
        return judged(Step(step.version, known, step.floor, step.seen)).known

    # Questions to upstream

    async def follow(
        self, app_id: str, board: str, track: str, wait: float, client: str = ""
    ) -> None:
        """Record a check of a machine at the address `client`; waits at most `wait` seconds, until upstream's first answer."""
        await self._follower.follow(ChannelKey(app_id, board, track), wait, client)

    def has_followed(self, app_id: str, board: str, track: str, client: str = "") -> bool:
        """Record the same; whether `follow` would not wait."""
        return self._follower.has_answered(ChannelKey(app_id, board, track), client)

    def has_asked_about(self, app_id: str, board: str, version: str) -> bool:
        """Whether `ask_about` would neither ask nor wait."""
        return self._pinned.is_over(ReleaseKey(app_id, board, version))

    async def ask_about(self, app_id: str, board: str, version: str, track: str) -> None:
        """Ask upstream's Omaha server once for the manifest of a pinned version; waits at most `ASK_FIRST` seconds."""
        await self._pinned.ask(ReleaseKey(app_id, board, version), track, ASK_FIRST)

    async def sync(self, track: str | None = None) -> None:
        """Ask upstream now about all channels, or those of one track.

        Versions whose last look-up failed are looked up again.
        """
        await self._follower.sync(track)
        asked = [item for item in self._channels.kept() if track in (None, item.key.track)]
        if tasks := self._lookups.retry(versions(asked)):
            await asyncio.wait(tasks, timeout=CONFIRMED)

    def record_upstream(self, *releases: Release) -> None:
        """Store releases as an Omaha server sent them, and start their look-ups."""
        for release in releases:
            key = key_of(release)
            if self._upstream.put(release):
                self._lookups.outdate(key)
            in_use = self._lookups.in_use(release.app_id, release.board)
            if self._lookups.lookup(key).want((), in_use):
                self._changed()
            self._lookups.begin(key)
        self._upstream.thin_out(self._channels.versions())

    async def import_releases(self, key: ChannelKey, brought: Sequence[ImportedRelease]) -> bool:
        """Store the releases of a bundle, oldest first; whether they are now the imported steps of the track.

        A version that upstream itself leads to stays as upstream sent it. Raises OSError: a restart would lose the import.
        """
        led, now = versions(self._follower.kept()), self._clock.stamp()
        leads = self._imports.put(key, brought, now)
        for item in brought:
            version = key_of(item.release)
            if version not in led:
                release = replace(item.release, learnt=now)
                known = LookupResult(release, looked_up=item.extras, complete=True)
                self._lookups.restore(version, known, item.extras)
                self._known_releases.put(version, known, self._channels.versions(), imported=True)
                self.record_upstream(item.release)
        self._changed()
        await self._storage.writer.write()
        return leads

    async def look_up(
        self,
        app_id: str,
        board: str,
        version: str,
        rule: Rule,
        oem: str,
        wait: float,
        client: str = "",
    ) -> None:
        """Look up what a machine needs of a version and is unknown or not fresh; one look-up at a time for all machines.

        Waits at most `wait` seconds, and only while no decision is possible; the look-up goes on after that. It counts
        as a use of the release. `client` is the machine's address: names of OEMs may be made up, so they are limited.
        """
        key = ReleaseKey(app_id, board, version)
        if isinstance(rule, Pin) and key not in self._pinned.asked:
            began = self._clock.boottime()
            await self._pinned.ask(key, "", wait)
            wait -= self._clock.boottime() - began
        self._want(key, rule, oem, client)
        needed = needed_packages(rule, oem)
        own = rule.packages if isinstance(rule, Pin) else ()
        await self._lookups.wait(key, needed, own, wait, client)

    def use(
        self, app_id: str, board: str, version: str, rule: Rule, oem: str, client: str = ""
    ) -> bool:
        """The same for a machine that is decided upon, and waits for nothing. False: a pin is not asked about yet."""
        key = ReleaseKey(app_id, board, version)
        if isinstance(rule, Pin) and not self._pinned.is_over(key):
            return False
        self._want(key, rule, oem, client)
        self._lookups.use(key)
        return True

    def _want(self, key: ReleaseKey, rule: Rule, oem: str, client: str) -> None:
        lookup = self._lookups.lookup(key)
        if lookup.known is not None and lookup.known.release is not None:
            self._known_releases.use(lookup.known.release)
        needed = needed_packages(rule, oem)
        own = rule.packages if isinstance(rule, Pin) else ()
        sent, now = self._upstream.get(key), self._clock.boottime()
        if sent is not None:
            is_new = lookup.want(own, needed & sent.by_name.keys())
        else:
            sure = self._upstream.extensions(key.app_id, key.board) | (needed & OEM_PACKAGES)
            in_use = self._lookups.in_use(key.app_id, key.board)
            is_new = lookup.want(own, sure | in_use, needed, client=client, now=now)
        if is_new:
            self._changed()

    def _learnt(self, releases: tuple[Release, ...]) -> None:
        """After a walk: look its releases up before a machine asks for one."""
        self._changed()
        if not self._closed:
            self.record_upstream(*releases)
            self._storage.writer.save_behind()

    def _leads(self, key: ReleaseKey) -> bool:
        return key in self._channels.versions()

    def _wanted(self, key: ReleaseKey) -> LookupRequest:
        upstream = self._upstream.get(key)
        imported = upstream is not None and self._known_releases.imported(upstream.id)
        return LookupRequest(*key, payload=self._payload, upstream=upstream, imported=imported)

    async def _settle(self, key: ReleaseKey, known: LookupResult) -> None:
        for gone in self._known_releases.put(
            key, known, {*self._led(), *self._channels.versions()}
        ):
            self._lookups.forget(gone)
        self._changed()
        await self._storage.writer.save()

    # Paths

    def current(self) -> list[Release]:
        """The releases that machines can be offered now: recently used ones, and those that tracks lead to."""
        return self._known_releases.current(self._staying())

    def current_until(self) -> float:
        """When the first of them would drop out, in seconds since the epoch."""
        return self._known_releases.current_until(self._staying())

    def _staying(self) -> set[ReleaseKey]:
        return {*self._led(), *versions(self._imports.kept())}

    def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server, from the newest release that has it."""
        return self._known_releases.layout_file(board, version, name)

    async def demanded(
        self,
        board: str,
        version: str,
        name: str,
        pins: Sequence[Pin],
        app_ids: Iterable[str],
        client: str,
    ) -> PackageFile | None:
        """The same; an unknown version is looked up first if one of these pins names it. `client` is the address."""
        found = self.layout_file(board, version, name)
        if found is not None or board not in BOARDS:
            return found
        oem = name.removeprefix("oem-").removesuffix(".gz") if name.startswith("oem-") else ""
        for app_id in app_ids:
            for pin in pins:
                await self.look_up(app_id, board, version, pin, oem, FIRST_FILE, client)
        return self.layout_file(board, version, name)
