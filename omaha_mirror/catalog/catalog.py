"""The catalog: which releases there are, and where tracks lead. Asked before every offer, and by every package path.

A release is settled and on disk before its first offer; another package set is another release.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog.channel import ChannelKey, ChannelStatus, KeptChannel, floors, status
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.followed import NOBODY, FollowPlan
from omaha_mirror.catalog.imports import ImportedRelease, Imports
from omaha_mirror.catalog.known_releases import KnownReleases
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
from omaha_mirror.catalog.pinned import ASK_FIRST, Pinned
from omaha_mirror.catalog.state import ReleaseKey, State, key_of, latest, versions
from omaha_mirror.catalog.upstream_releases import UpstreamReleases
from omaha_mirror.catalog.writer import Writer
from omaha_mirror.config.rules import Follow, Pin, Rule, track_upstream
from omaha_mirror.reasons import Reason

FIRST_FILE = 20.0
"""Seconds that somebody who asks for a release by its version waits for it to be looked up."""
CONFIRMED = 10.0
"""Seconds that an operator who asks for news waits for packages to be confirmed."""


class Catalog:
    """Releases by path, what is known of each wanted version, and where upstream leads each track.

    Args:
        learn: settles a version.
        path: of `catalog.json`.
        payload: file name of the update itself upstream.
        following: how tracks are followed.
        clock: tells the time.
        rng: for jitter.
    """

    def __init__(
        self,
        learn: Learn,
        path: Path,
        payload: str,
        following: FollowPlan = NOBODY,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._payload = payload
        self._clock = clock or Clock()
        self._known_releases = KnownReleases(self._clock)
        self._follower = Follower(following, self._learnt, self._clock, rng or random.Random())
        self._imports = Imports()
        self._told = UpstreamReleases()
        self._lookups = Lookups(learn, self._wanted, self._settle, self._leads, self._clock)
        self._pinned = Pinned(self._follower, self._told)
        self._turns = 0
        self._closed = False
        self._writer = Writer(path, self._state)

    async def start(self) -> None:
        """Read what was known before. A damaged file is put aside, and said."""
        state = await self._writer.read()
        self._known_releases.restore(state.releases)
        self._told.restore(state.told)
        for item in state.releases:
            if item.current:
                told = item.key in self._told
                known = LookupResult(item.release, looked_up=item.looked_up, complete=told)
                # Nobody would confirm a package that was imported, and has gone: who asks waits for a look.
                known_now = None if item.imported else known
                self._lookups.restore(item.key, known_now, item.looked_up)
        self._imports.restore(state.imported)
        self._follower.restore(state.channels)

    async def close(self) -> None:
        """Stop asking upstream, and keep the times of last use."""
        self._closed = True
        await self._follower.close()
        await self._pinned.close()
        await self._lookups.close()
        await self._writer.close()

    def change(self, following: FollowPlan) -> None:
        """Follow tracks by another plan from now on."""
        self._follower.change(following)

    # What is known

    def steps(self, app_id: str, board: str, track: str, rule: Rule) -> tuple[Step, ...]:
        """Where a rule leads the machines of a track, as `decide` takes it, without asking anyone upstream.

        A pin's steps are the known floors below it, of whatever track, and the pin. A relayed machine's are not here:
        see `step`. It counts as a use of the target.
        """
        self._rebase()
        match rule:
            case Pin(version=version):
                steps = (*floors(self._kept(), app_id, board, version), Step(version))
            case Follow():
                key = ChannelKey(app_id, board, track_upstream(track, rule))
                channel = self._imports.channel(key, self._follower.channel(key))
                # A bundle names a track as the machines do.
                steps = self._imports.channel(ChannelKey(app_id, board, track), channel).offered
            case _:
                steps = ()
        if steps:
            self.known(app_id, board, steps[-1].version)
        return tuple(replace(step, known=self._known(app_id, board, step)) for step in steps)

    def step(self, app_id: str, board: str, version: str, name: str = "") -> Step:
        """A version that upstream told one machine, as the one step of its way. It counts as a use.

        `name` is what it goes by here, where that is not the version; see `ReleaseKey`.
        """
        return Step(version, self.known(app_id, board, name or version) or LookupResult())

    def nothing(self, app_id: str, board: str, track: str) -> tuple[Reason, str]:
        """Why a track that is followed has no steps, as a reason and its detail."""
        return self._follower.nothing(ChannelKey(app_id, board, track))

    def known(self, app_id: str, board: str, version: str) -> LookupResult | None:
        """What is known of a version now, without asking anyone upstream. It counts as a use of its release."""
        known = self._lookups.known(ReleaseKey(app_id, board, version))
        if known is not None and known.release is not None:
            self.offered(known.release)
        return known

    def channels(self) -> list[ChannelStatus]:
        """What upstream said of all that machines asked about, for operators."""
        self._rebase()
        nothing, trouble, now = self._follower.nothing, self._follower.trouble, self._clock.time()
        return [
            status(k, partial(self._known, *k.key[:2]), nothing(k.key), trouble(k.key), now)
            for k in sorted(self._imports.added(self._follower.shown()), key=lambda k: k.key)
        ]

    def looked_up(self, release: Release) -> frozenset[str]:
        """The names of extra packages of a release that machines here need."""
        return self._lookups.names(key_of(release))

    def _rebase(self) -> None:
        """When the clock became sure, or another one: what was noted before and lies in the future begins now."""
        turns, now = self._clock.turns, self._clock.time()
        if turns == self._turns:
            return
        self._turns = turns
        if latest(self._state()) <= now:
            return
        for part in (
            self._known_releases,
            self._follower,
            self._imports,
            self._lookups,
            self._told,
        ):
            part.rebase(now)
        self._writer.save_behind()

    def _known(self, app_id: str, board: str, step: Step) -> LookupResult:
        return self._lookups.known(ReleaseKey(app_id, board, step.version)) or LookupResult()

    def _kept(self) -> list[KeptChannel]:
        return self._imports.added(self._follower.kept())

    # Asking

    async def follow(
        self, app_id: str, board: str, track: str, wait: float, client: str = ""
    ) -> None:
        """Note that a machine asks on a track that is followed; do so at each check.

        Waits, `wait` seconds at most, only while upstream has never answered; learning goes on after that. `client` is
        the address it asks from.
        """
        await self._follower.follow(ChannelKey(app_id, board, track), wait, client)

    async def ask_about(self, app_id: str, board: str, version: str, track: str) -> None:
        """Ask upstream's Omaha once about a version that the machines of a track are pinned to; waits for a moment only."""
        await self._pinned.ask(ReleaseKey(app_id, board, version), track, ASK_FIRST)

    async def sync(self, track: str | None = None) -> list[ChannelStatus]:
        """Ask upstream now for all that is known, or for one track; gives what is known then of what was asked.

        Versions with which there was trouble are looked up again.
        """
        await self._follower.sync(track)
        asked = [item for item in self._kept() if track in (None, item.key.track)]
        if tasks := self._lookups.retry(versions(asked)):
            await asyncio.wait(tasks, timeout=CONFIRMED)
        return [status for status in self.channels() if track in (None, status.track)]

    def record_upstream(self, *releases: Release) -> None:
        """Remember releases as an Omaha server told them, and begin to settle them."""
        for release in releases:
            key = key_of(release)
            if self._told.put(release):
                self._lookups.outdate(key)
            in_use = self._lookups.in_use(release.app_id, release.board)
            self._lookups.question(key).want((), in_use)
            self._lookups.begin(key)
        self._told.thin_out(versions(self._kept()))

    async def take_in(self, key: ChannelKey, brought: Sequence[ImportedRelease]) -> bool:
        """Remember what a bundle brought, oldest first; whether the track leads there as far as bundles go.

        Where upstream leads to a version itself, its own word on it stands. Raises OSError: it will not survive a restart.
        """
        led, now = versions(self._follower.kept()), self._clock.stamp()
        leads = self._imports.put(key, brought, now)
        for item in brought:
            version = key_of(item.release)
            if version not in led:
                release = replace(item.release, learnt=now)
                known = LookupResult(release, looked_up=item.extras, complete=True)
                self._lookups.restore(version, known, item.extras)
                self._known_releases.put(version, known, versions(self._kept()), imported=True)
                self.record_upstream(item.release)
        await self._writer.write()
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
        """Learn what a machine needs of a version and is not known or not fresh; one question at a time for all who ask.

        Waits only while nothing can be decided, `wait` seconds at most; learning goes on after that. It counts as a
        use of the release. `client` is the address that a machine asks from: it may make its OEM up.
        """
        key = ReleaseKey(app_id, board, version)
        if isinstance(rule, Pin) and not self._pinned.asked(key):
            began = self._clock.boottime()
            await self._pinned.ask(key, "", wait)
            wait -= self._clock.boottime() - began
        self.known(app_id, board, version)
        needed = needed_packages(rule, oem)
        own = rule.packages if isinstance(rule, Pin) else ()
        told, now = self._told.get(key), self._clock.boottime()
        question = self._lookups.question(key)
        if told is not None:
            question.want(own, {name for name in needed if told.file(name) is not None})
        else:
            sure = self._told.extensions(app_id, board) | (needed & OEM_PACKAGES)
            in_use = self._lookups.in_use(app_id, board)
            question.want(own, sure | in_use, needed, client=client, now=now)
        await self._lookups.wait(key, needed, own, wait, client)

    def _learnt(self, releases: tuple[Release, ...]) -> None:
        """A channel leads elsewhere or was walked: its releases are settled before a machine asks for one."""
        if not self._closed:
            self.record_upstream(*releases)
            self._writer.save_behind()

    def _leads(self, key: ReleaseKey) -> bool:
        return key in versions(self._kept())

    def _wanted(self, key: ReleaseKey) -> LookupRequest:
        told = self._told.get(key)
        imported = told is not None and self._known_releases.imported(told.id)
        return LookupRequest(*key, payload=self._payload, told=told, imported=imported)

    async def _settle(self, key: ReleaseKey, known: LookupResult) -> None:
        for gone in self._known_releases.put(key, known, versions(self._kept())):
            self._lookups.forget(gone)
        await self._writer.save()

    def _state(self) -> State:
        return State(
            tuple(self._known_releases.kept()),
            self._told.all(),
            tuple(self._follower.lasting()),
            tuple(self._imports.kept()),
        )

    # Paths

    def current(self) -> list[Release]:
        """The releases that machines are offered now."""
        return self._known_releases.current(versions(self._imports.kept()))

    def offered(self, release: Release) -> None:
        """Note that a release was used."""
        self._known_releases.use(release)

    def package(self, release_id: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""
        return self._known_releases.package(release_id, name)

    def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server: of the newest release that has it."""
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
        """The same; where it is not known, a version that these pins name is looked up for a client at an address."""
        found = self.layout_file(board, version, name)
        if found is not None or board not in BOARDS:
            return found
        oem = name.removeprefix("oem-").removesuffix(".gz") if name.startswith("oem-") else ""
        for app_id in app_ids:
            for pin in pins:
                await self.look_up(app_id, board, version, pin, oem, FIRST_FILE, client)
        return self.layout_file(board, version, name)

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a release server's path got another digest within a day."""
        return self._known_releases.changed_recently(board, version, name)
