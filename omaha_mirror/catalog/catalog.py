"""The catalog: which releases there are, and where tracks lead. Asked before every offer, and by every package path.

A release is settled and on disk before its first offer; another package set is another release.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omaha_mirror.catalog.channel import ChannelKey, ChannelStatus, KeptChannel, floors, status
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.following import NOBODY, Following
from omaha_mirror.catalog.imports import Brought, Imports
from omaha_mirror.catalog.learn import Wanted
from omaha_mirror.catalog.model import (
    Known,
    PackageFile,
    Release,
    Step,
    began,
    extensions,
    needed_packages,
)
from omaha_mirror.catalog.question import RETRY, Question, lasts, settled
from omaha_mirror.catalog.reasons import Reason
from omaha_mirror.catalog.rules import Follow, Pin, Rule
from omaha_mirror.catalog.shelf import Shelf
from omaha_mirror.catalog.state import ReleaseKey, State, key_of, versions
from omaha_mirror.catalog.writer import Writer
from omaha_mirror.clock import Clock

MAX_TOLD = 256
"""Releases that upstream once told, and that no track leads to any more: a pin may name one."""
LOG = logging.getLogger(__name__)

Learn = Callable[[Wanted], Awaitable[Known]]


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
        following: Following = NOBODY,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._learn = learn
        self._payload = payload
        self._clock = clock or Clock()
        self._shelf = Shelf(self._clock)
        self._follower = Follower(following, self._learnt, self._clock, rng or random.Random())
        self._imports = Imports()
        self._told: dict[ReleaseKey, Release] = {}
        self._questions: dict[ReleaseKey, Question] = {}
        self._asking: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._turns = 0
        self._closed = False
        self._writer = Writer(path, self._state)

    async def start(self) -> None:
        """Read what was known before. A damaged file is put aside, and said."""
        state = await self._writer.read()
        self._shelf.restore(state.releases)
        self._told = {key_of(release): release for release in state.told}
        for item in state.releases:
            if item.current:
                known = Known(item.release, looked_up=item.looked_up)
                # Nobody would confirm a package that was imported, and has gone: who asks waits for a look.
                known_now = None if item.imported else known
                self._questions[item.key] = Question(known_now, set(item.looked_up))
        self._imports.restore(state.imported)
        self._follower.restore(state.channels)

    async def close(self) -> None:
        """Stop asking upstream, and keep the times of last use."""
        self._closed = True
        await self._follower.close()
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._writer.close()

    def change(self, following: Following) -> None:
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
                key = ChannelKey(app_id, board, track)
                steps = self._imports.channel(key, self._follower.channel(key)).offered
            case _:
                steps = ()
        if steps:
            self.known(app_id, board, steps[-1].version)
        return tuple(replace(step, known=self._known(app_id, board, step)) for step in steps)

    def step(self, app_id: str, board: str, version: str) -> Step:
        """A version that upstream told one machine, as the one step of its way. It counts as a use."""
        return Step(version, self.known(app_id, board, version) or Known())

    def nothing(self, app_id: str, board: str, track: str) -> tuple[Reason, str]:
        """Why a track that is followed has no steps, as a reason and its detail."""
        return self._follower.nothing(ChannelKey(app_id, board, track))

    def known(self, app_id: str, board: str, version: str) -> Known | None:
        """What is known of a version now, without asking anyone upstream. It counts as a use of its release."""
        question = self._questions.get(ReleaseKey(app_id, board, version))
        if question is None or question.known is None:
            return None
        if question.known.release is not None:
            self.offered(question.known.release)
        return question.known

    def channels(self) -> list[ChannelStatus]:
        """What upstream said of all that machines asked about, for operators."""
        self._rebase()
        nothing, trouble, now = self._follower.nothing, self._follower.trouble, self._clock.time()
        return [
            status(k, partial(self._known, *k.key[:2]), nothing(k.key), trouble(k.key), now)
            for k in sorted(self._kept(), key=lambda kept: kept.key)
        ]

    def looked_up(self, release: Release) -> frozenset[str]:
        """The names of extra packages of a release that machines here need."""
        question = self._questions.get(key_of(release))
        return frozenset(question.names if question is not None else ())

    def _rebase(self) -> None:
        """When the clock became sure, or another one: what was noted before and lies in the future begins now."""
        turns, now = self._clock.turns, self._clock.time()
        if turns == self._turns:
            return
        self._turns = turns
        rest = (question.rebase for question in self._questions.values())
        for rebase in (self._shelf.rebase, self._follower.rebase, self._imports.rebase, *rest):
            rebase(now)
        self._told = {key: began(release, now) for key, release in self._told.items()}
        self._writer.save_behind()

    def _known(self, app_id: str, board: str, step: Step) -> Known:
        question = self._questions.get(ReleaseKey(app_id, board, step.version))
        return (question and question.known) or Known()

    def _kept(self) -> list[KeptChannel]:
        return self._imports.added(self._follower.kept())

    # Asking

    async def follow(self, app_id: str, board: str, track: str, wait: float) -> None:
        """Note that a machine asks on a track that is followed; do so at each check.

        Waits, `wait` seconds at most, only while upstream has never answered; learning goes on after that.
        """
        await self._follower.follow(ChannelKey(app_id, board, track), wait)

    async def sync(self, track: str | None = None) -> list[ChannelStatus]:
        """Ask upstream now for all that is known, or for one track; gives what is known then of what was asked."""
        await self._follower.sync(track)
        return [status for status in self.channels() if track in (None, status.track)]

    def told(self, *releases: Release) -> None:
        """Remember releases as an Omaha server told them, and begin to settle them."""
        for release in releases:
            key = key_of(release)
            question = self._questions.setdefault(key, Question())
            if self._told.get(key) != release:
                self._told[key] = release
                question.again = 0.0
            wished = self._in_use(release.app_id, release.board)
            question.want((), wished, self._clock.boottime())
            self._begin(key, question, wished)
        leading = versions(self._kept())
        spare = sorted((r.learnt, key) for key, r in self._told.items() if key not in leading)
        for _, key in spare[:-MAX_TOLD]:
            del self._told[key]

    async def take_in(self, key: ChannelKey, brought: Sequence[Brought]) -> bool:
        """Remember what a bundle brought, oldest first; whether the track leads there as far as bundles go.

        Where upstream leads to a version itself, its own word on it stands. Raises OSError: it will not survive a restart.
        """
        led, now = versions(self._follower.kept()), self._clock.stamp()
        leads = self._imports.put(key, brought, now)
        for item in brought:
            version = key_of(item.release)
            if version not in led:
                known = Known(replace(item.release, learnt=now), looked_up=item.extras)
                self._questions[version] = Question(known, set(item.extras))
                self._shelf.put(version, known, versions(self._kept()), imported=True)
                self.told(item.release)
        await self._writer.write()
        return leads

    async def look_up(
        self, app_id: str, board: str, version: str, rule: Rule, oem: str, wait: float
    ) -> None:
        """Learn what a machine needs of a version and is not known or not fresh; one question at a time for all who ask.

        Waits only while nothing can be decided, `wait` seconds at most; learning goes on after that. It counts as a
        use of the release.
        """
        key = ReleaseKey(app_id, board, version)
        question = self._questions.setdefault(key, Question())
        if question.known is not None and question.known.release is not None:
            self.offered(question.known.release)
        needed = needed_packages(rule, oem)
        own = rule.packages if isinstance(rule, Pin) else ()
        known = () if key in self._told else self._told.values()
        wished = needed | extensions(known, app_id, board)
        question.want(own, wished, self._clock.boottime())
        deadline = self._clock.boottime() + wait
        while (task := self._begin(key, question, wished)) is not None:
            left = deadline - self._clock.boottime()
            if not question.undecided(needed) or left <= 0:
                return
            await asyncio.wait([task], timeout=left)

    def _learnt(self, releases: tuple[Release, ...]) -> None:
        """A channel leads elsewhere or was walked: its releases are settled before a machine asks for one."""
        if not self._closed:
            self.told(*releases)
            self._writer.save_behind()

    def _in_use(self, app_id: str, board: str) -> frozenset[str]:
        """Extra packages that machines here needed of other versions."""
        return frozenset(
            name
            for key, question in self._questions.items()
            if key[:2] == (app_id, board) and question.known is not None
            for name in question.names
            if (release := question.known.release) is not None and release.file(name) is not None
        )

    def _begin(
        self, key: ReleaseKey, question: Question, needed: frozenset[str]
    ) -> asyncio.Task[None] | None:
        """The question under way; a new one if that is due; else None."""
        if self._closed:
            return None
        task = self._asking.get(key)
        if task is not None and not task.done():
            return task
        if not question.due(needed, self._clock.boottime()):
            return None
        task = self._asking[key] = asyncio.create_task(self._ask(key, question))
        return task

    async def _ask(self, key: ReleaseKey, question: Question) -> None:
        question.asked = frozenset(question.names)
        question.again = self._clock.boottime() + RETRY
        before = question.known.release if question.known is not None else None
        told = self._told.get(key)
        wanted = Wanted(
            *key,
            payload=self._payload,
            extras=tuple(sorted(question.asked)),
            before=before,
            told=told,
            own=frozenset(question.own),
            imported=told is not None and self._shelf.imported(told.id),
        )
        try:
            found = await self._learn(wanted)
        except Exception:
            LOG.exception("looking up %s %s failed; it is tried again", key.board, key.version)
            return
        if found.release is None:
            LOG.warning("%s %s: %s: %s", key.board, key.version, found.reason, found.detail)
        for name, why in found.lacking.items():
            LOG.warning("%s %s: %s cannot be had: %s", key.board, key.version, name, why)
        known = settled(question.known, found)
        if known.release is not before:
            for gone in self._shelf.put(key, known, versions(self._kept())):
                self._questions.pop(gone, None)
            await self._writer.save()
        question.known = known
        question.again = self._clock.boottime() + lasts(found)
        if self._told.get(key) is not told:
            await self._ask(key, question)

    def _state(self) -> State:
        return State(
            tuple(self._shelf.kept()),
            tuple(self._told.values()),
            tuple(self._follower.kept()),
            tuple(self._imports.kept()),
        )

    # Paths

    def current(self) -> list[Release]:
        """The releases that machines are offered now."""
        return self._shelf.current(versions(self._imports.kept()))

    def offered(self, release: Release) -> None:
        """Note that a release was used."""
        self._shelf.use(release)

    def package(self, release_id: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""
        return self._shelf.package(release_id, name)

    def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server: of the newest release that has it."""
        return self._shelf.layout_file(board, version, name)

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a release server's path got another digest within a day."""
        return self._shelf.changed_recently(board, version, name)
