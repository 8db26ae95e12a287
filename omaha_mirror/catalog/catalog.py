"""The catalog: which releases there are, and where tracks lead. Asked before every offer, and by every package path.

A release is settled and on disk before its first offer; another package set is another release.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog.channel import ChannelKey, ChannelStatus, status
from omaha_mirror.catalog.channels import Channels, ImportedRelease, Imports
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.followed import NOBODY, FollowPlan
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
from omaha_mirror.catalog.state import ReleaseKey, State, StateWriter, key_of, latest, versions
from omaha_mirror.config.rules import Pin, Rule
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
        led: gives the versions that tracks lead to by the rules in force.
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
        led: Callable[[], Collection[ReleaseKey]] = frozenset,
    ) -> None:
        self._led = led
        self._payload = payload
        self._clock = clock or Clock()
        self._known_releases = KnownReleases(self._clock, self._changed)
        self.package = self._known_releases.package
        rng = rng or random.Random()
        self._follower = Follower(following, self._learnt, self._changed, self._clock, rng)
        self._imports = Imports()
        self._channels = Channels(self._follower, self._imports)
        self._told = UpstreamReleases()
        self._lookups = Lookups(
            learn, self._wanted, self._settle, self._leads, self._changed, self._clock
        )
        self._pinned = Pinned(self._follower, self._told)
        self._corrections = 0
        self._closed = False
        self._writer = StateWriter(path, self._state)

    async def start(self) -> None:
        """Read what was known before. A damaged file is put aside, and said."""
        self.restore(await self._writer.read())

    def restore(self, state: State) -> None:
        """Take up what was known."""
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
        self._changed()

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
        self._changed()

    # What is known

    @property
    def changes(self) -> int:
        """Another number when where tracks lead, or which releases there are, may be another than before."""
        self._rebase()
        return self._channels.changes

    def _changed(self) -> None:
        self._channels.changed()

    def tracks(self) -> set[str]:
        """The tracks of all channels, upstream's and those of bundles."""
        return {item.key.track for item in self._channels.kept()}

    def steps(self, app_id: str, board: str, track: str, rule: Rule) -> tuple[Step, ...]:
        """Where a track leads that has this rule, as `leads_to` takes it; nobody is asked. A relayed machine: see `step`."""
        self._rebase()
        steps = self._channels.steps(app_id, board, track, rule)
        return tuple(Step(s.version, self._known(app_id, board, s), s.floor, s.seen) for s in steps)

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
            self._known_releases.use(known.release)
        return known

    def channels(self, judged: Callable[[Step], Step]) -> list[ChannelStatus]:
        """What upstream said of all that machines asked about; `judged` adds to a step what is known of its bytes."""
        self._rebase()
        nothing, trouble, now = self._follower.nothing, self._follower.trouble, self._clock.time()
        return [
            status(k, partial(self._judged, judged, k.key), nothing(k.key), trouble(k.key), now)
            for k in self._channels.shown()
        ]

    def looked_up(self, release: Release) -> frozenset[str]:
        """The names of extra packages of a release that machines here need."""
        return self._lookups.names(key_of(release))

    def _rebase(self) -> None:
        """When the clock became sure, or another one: what was noted before and lies in the future begins now."""
        if self._clock.corrections == self._corrections:
            return
        self._corrections, now = self._clock.corrections, self._clock.time()
        self._changed()
        if latest(self._state()) > now:
            parts = self._known_releases, self._follower, self._imports, self._lookups, self._told
            for part in parts:
                part.rebase(now)
            self._writer.save_behind()

    def _known(self, app_id: str, board: str, step: Step) -> LookupResult:
        return self._lookups.known(ReleaseKey(app_id, board, step.version)) or LookupResult()

    def _judged(self, judged: Callable[[Step], Step], key: ChannelKey, step: Step) -> LookupResult:
        return judged(replace(step, known=self._known(key.app_id, key.board, step))).known

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

    async def sync(self, track: str | None = None) -> None:
        """Ask upstream now for all that is known, or for one track.

        Versions with which there was trouble are looked up again.
        """
        await self._follower.sync(track)
        asked = [item for item in self._channels.kept() if track in (None, item.key.track)]
        if tasks := self._lookups.retry(versions(asked)):
            await asyncio.wait(tasks, timeout=CONFIRMED)

    def record_upstream(self, *releases: Release) -> None:
        """Remember releases as an Omaha server told them, and begin to settle them."""
        for release in releases:
            key = key_of(release)
            if self._told.put(release):
                self._lookups.outdate(key)
            in_use = self._lookups.in_use(release.app_id, release.board)
            if self._lookups.question(key).want((), in_use):
                self._changed()
            self._lookups.begin(key)
        self._told.thin_out(self._channels.versions())

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
                self._known_releases.put(version, known, self._channels.versions(), imported=True)
                self.record_upstream(item.release)
        self._changed()
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
        if isinstance(rule, Pin) and key not in self._pinned.asked:
            began = self._clock.boottime()
            await self._pinned.ask(key, "", wait)
            wait -= self._clock.boottime() - began
        question = self._lookups.question(key)
        if question.known is not None and question.known.release is not None:
            self._known_releases.use(question.known.release)
        needed = needed_packages(rule, oem)
        own = rule.packages if isinstance(rule, Pin) else ()
        told, now = self._told.get(key), self._clock.boottime()
        if told is not None:
            is_new = question.want(own, needed & told.by_name.keys())
        else:
            sure = self._told.extensions(app_id, board) | (needed & OEM_PACKAGES)
            in_use = self._lookups.in_use(app_id, board)
            is_new = question.want(own, sure | in_use, needed, client=client, now=now)
        if is_new:
            self._changed()
        await self._lookups.wait(key, needed, own, wait, client)

    def _learnt(self, releases: tuple[Release, ...]) -> None:
        """A channel leads elsewhere or was walked: its releases are settled before a machine asks for one."""
        self._changed()
        if not self._closed:
            self.record_upstream(*releases)
            self._writer.save_behind()

    def _leads(self, key: ReleaseKey) -> bool:
        return key in self._channels.versions()

    def _wanted(self, key: ReleaseKey) -> LookupRequest:
        told = self._told.get(key)
        imported = told is not None and self._known_releases.imported(told.id)
        return LookupRequest(*key, payload=self._payload, told=told, imported=imported)

    async def _settle(self, key: ReleaseKey, known: LookupResult) -> None:
        for gone in self._known_releases.put(
            key, known, {*self._led(), *self._channels.versions()}
        ):
            self._lookups.forget(gone)
        self._changed()
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
        """The releases that machines are offered now: those used lately, and those that tracks or bundles lead to."""
        return self._known_releases.current(self._staying())

    def current_until(self) -> float:
        """When the first of them is one no more if nothing changes, in seconds since the epoch."""
        return self._known_releases.current_until(self._staying())

    def _staying(self) -> set[ReleaseKey]:
        return {*self._led(), *versions(self._imports.kept())}

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
