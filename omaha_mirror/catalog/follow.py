"""Following tracks: upstream is asked about those that machines ask about, and only as often as it must be.

- Nothing is asked before a machine asks. The first walk of a channel is from the beginning, and so is one a day and
  one after each poll that found something: what is a floor can change. Polls in between ask as the newest version.
- A channel that no machine asked about since upstream last answered is not polled, unless upstream waits for us to
  reach something; the next machine starts that again, and is answered from what is known.
- One question at a time for a channel, few at once over all, about few channels: machines can name any track. Of those
  that upstream is not known to have few are asked about, and none keeps another waiting for long.
- An outage is asked into again soon and then ever less often. What was cut short goes on where it was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial, reduce

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import DEFECT, log_failure
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel, merged, rebased
from omaha_mirror.catalog.follow_events import (
    LOG,
    Failed,
    FollowEvent,
    Learnt,
    NothingOffered,
    Recovered,
    log,
)
from omaha_mirror.catalog.followed import (
    MAX_LEARNT,
    NO_UPSTREAM,
    NOBODY,
    FollowedChannel,
    FollowedChannels,
    FollowPlan,
    Inquiry,
)
from omaha_mirror.catalog.model import Release
from omaha_mirror.catalog.question_turns import Turns
from omaha_mirror.catalog.upstream_answer import Unusable, UpstreamReading, read_soon, read_told
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import BadAnswer, Forbidden, TooLarge, UpstreamError

AT_ONCE = 4
"""Questions under way over all channels."""
DAY = 24 * 3600.0
FIRST_RETRY = 30.0
SHOWN = 16
"""Channels that operators see although upstream never led anywhere on them and the config does not name them."""
_NOT_TRUSTED = (Unusable, BadAnswer, TooLarge, Forbidden)


class Follower:
    """Follows the channels that machines ask about.

    Args:
        plan: how.
        learnt: told, when a channel changed or was walked, which releases upstream told; must not raise.
        forgot: told when a channel is followed no more; must not raise.
        clock: tells the time.
        rng: for jitter.
    """

    def __init__(
        self,
        plan: FollowPlan,
        learnt: Callable[[tuple[Release, ...]], None],
        forgot: Callable[[], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._followed = FollowedChannels(plan, forgot)
        self._learnt = learnt
        self._clock = clock
        self._rng = rng
        self._line = asyncio.Semaphore(AT_ONCE)
        self._turns = Turns(clock)
        self._syncing: set[asyncio.Task[float]] = set()
        self._closed = False

    def restore(self, kept: Iterable[KeptChannel]) -> None:
        """Take up what was known, before anything is asked; the channels used last if there are too many."""
        now, age = self._clock.boottime(), self._clock.age
        self._followed.restore(kept, lambda then: now - age(then))

    def change(self, plan: FollowPlan) -> None:
        """Follow by another plan from now on; intervals that have begun end as they were meant to."""
        self._followed.plan = plan

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        for followed in self._followed:
            followed.channel = rebased(followed.channel, now)
            followed.asked = min(followed.asked, now)

    async def close(self) -> None:
        """Stop asking; what a walk has learnt so far counts."""
        self._closed = True
        tasks = [f.task for f in self._followed if f.task is not None]
        for task in (*tasks, *self._syncing):
            task.cancel()
        await asyncio.gather(*tasks, *self._syncing, return_exceptions=True)
        await self._turns.close()

    async def follow(self, key: ChannelKey, wait: float, client: str = "") -> None:
        """Note that a machine asks, from an address.

        Waits, `wait` seconds at most, only while upstream has never answered, and not for one of many made-up tracks.
        """
        followed = self._demand(key, client)
        if followed is None or (self._turns.scarce and self._followed.crowded(followed)):
            return
        if followed.channel.policy is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await followed.rested.wait()

    async def sync(self, track: str | None = None) -> None:
        """Walk all of what is known now, or of one track."""
        tasks = set()
        for followed in self._followed:
            if track in (None, followed.key.track) and not self._closed:
                tasks.add(asyncio.create_task(self._sit(followed, whole=True)))
        self._syncing |= tasks
        for task in tasks:
            task.add_done_callback(self._syncing.discard)
            task.add_done_callback(log_failure)
        if tasks:
            await asyncio.wait(tasks)

    def channel(self, key: ChannelKey) -> Channel:
        """What is known of one."""
        followed = self._followed.get(key)
        return Channel() if followed is None else followed.channel

    def nothing(self, key: ChannelKey) -> tuple[Reason, str]:
        """Why a channel offers nothing, as a reason and its detail."""
        if self._followed.plan is NOBODY:
            return Reason.NO_UPDATE_UPSTREAM, NO_UPSTREAM
        followed = self._followed.get(key)
        if followed is None:
            if self._followed.may_add(key, self._clock.boottime()):
                return Reason.WARMING, ""
            return Reason.TOO_MANY_TRACKS, f"{MAX_LEARNT} others are followed"
        if followed.channel.policy is None and followed.trouble is not None:
            return followed.trouble
        return followed.channel.nothing

    def trouble(self, key: ChannelKey) -> str:
        """Why the last answer about a channel could not be had or used; empty if it could."""
        followed = self._followed.get(key)
        return "" if followed is None or followed.trouble is None else followed.trouble[1]

    def kept(self) -> list[KeptChannel]:
        """All that were asked about."""
        return [KeptChannel(f.key, f.channel, f.asked) for f in self._followed]

    def configured(self, key: ChannelKey) -> bool:
        """Whether its track is named in the config."""
        return self._followed.configured(key)

    def shown(self) -> list[KeptChannel]:
        """Those that operators see: all while those that machines may have made up are few, else without these."""
        lasting, kept = self.lasting(), self.kept()
        return kept if len(kept) - len(lasting) <= SHOWN else lasting

    def lasting(self) -> list[KeptChannel]:
        """Those of them that are worth remembering: not what machines may have made up."""
        lasts = self._followed.lasts
        return [KeptChannel(f.key, f.channel, f.asked) for f in self._followed if lasts(f)]

    # Asking

    def _demand(self, key: ChannelKey, client: str) -> FollowedChannel | None:
        if self._closed or not self._followed.plan.asks:
            return None
        now = self._clock.boottime()
        followed = self._followed.get(key) or self._followed.add(key, now, client)
        if followed is not None:
            followed.asked, followed.heard, followed.wanted = self._clock.stamp(), now, True
            if not followed.active:
                followed.rested.clear()
                followed.task = asyncio.create_task(self._run(followed))
                followed.task.add_done_callback(log_failure)
        return followed

    async def _run(self, followed: FollowedChannel) -> None:
        while followed.wanted or followed.pending:
            followed.wanted = False
            if not self._followed.lasts(followed):
                await self._turns.take(followed.client)
            pause = await self._sit(followed)
            followed.wanted |= followed.unreachable
            await self._clock.sleep(pause)

    async def _sit(self, followed: FollowedChannel, *, whole: bool = False) -> float:
        """Walk on, or anew, and take in what was learnt; `whole` to ask about everything. Seconds until the next time."""
        walks: list[Walk] = []
        trouble: tuple[Reason, str] | None = None
        async with followed.turn:
            followed.rested.clear()
            if whole:
                followed.whole_due = 0.0
                followed.walk = None
            try:
                await self._walk(followed, walks)
            except _NOT_TRUSTED as error:
                trouble = Reason.REFUSED, str(error)
            except UpstreamError as error:
                trouble = Reason.UNREACHABLE, str(error)
            except Exception:
                LOG.exception("following a track failed; it is tried again", key=followed.key)
                trouble = Reason.UNREACHABLE, DEFECT
            finally:
                if walks:
                    self._take_in(followed, walks)
                if walks or trouble:
                    self._note(followed, trouble)
                followed.rested.set()
            return self._pause(followed)

    async def _walk(self, followed: FollowedChannel, walks: list[Walk]) -> None:
        """Ask until upstream has no more to say; adds to `walks` those that had an answer."""
        while True:
            walk = self._next(followed)
            going = True
            while going:
                told = await self._question(followed.key, walk.asks)
                if not walks or walks[-1] is not walk:
                    walks.append(walk)
                going = walk.tell(told)
            if walk.known is None or not (walk.ended and walk.given):
                break
            followed.whole_due = 0.0
        if walk.known is None and walk.ended:
            followed.whole_due = self._clock.boottime() + DAY

    def _next(self, followed: FollowedChannel) -> Walk:
        """The walk that was cut short, unless that is long ago, or a new one."""
        now = self._clock.boottime()
        if followed.walk is None or followed.walk.ended or now >= followed.stale:
            offered = followed.channel.offered
            poll = bool(offered) and now < followed.whole_due
            followed.walk = Walk(offered[-1].version if poll else None)
            followed.stale = now + DAY
        return followed.walk

    async def _question(self, key: ChannelKey, version: str) -> UpstreamReading:
        async with self._line:
            response = await self._followed.plan.ask(Inquiry(*key, version))
        allowed, now = self._followed.plan.allowed, self._clock.stamp()
        return await read_soon(
            response,
            partial(read_told, app_id=key.app_id, board=key.board, allowed=allowed, now=now),
        )

    # What came of it

    def _take_in(self, followed: FollowedChannel, walks: Iterable[Walk]) -> None:
        now = self._clock.stamp()
        old = followed.channel
        new = reduce(lambda channel, walk: merged(channel, walk, now), walks, old)
        followed.channel = new
        self._followed.grown(followed, self._clock.boottime())
        releases = tuple(offered.release for walk in walks for offered in walk.given)
        if releases or replace(new, answered=old.answered, walked=old.walked) != old:
            self._learnt(releases)
        before, after = ([step.version for step in channel.offered] for channel in (old, new))
        if after and before != after:
            added = tuple(version for version in after if version not in before)
            gone = tuple(version for version in before if version not in after)
            self._tell(Learnt(followed.key, tuple(after), added, gone))
        elif not after and new.policy is not old.policy:
            self._tell(NothingOffered(followed.key, *new.nothing))

    def _note(self, followed: FollowedChannel, trouble: tuple[Reason, str] | None) -> None:
        before, was_down = followed.trouble, self._down()
        followed.trouble = trouble
        followed.failures = 0 if trouble is None else followed.failures + 1
        if trouble is not None:
            first = not was_down if followed.unreachable else trouble != before
            self._tell(Failed(followed.key, *trouble, first))
        if was_down and not self._down():
            self._tell(Recovered(followed.key))

    def _down(self) -> bool:
        return any(followed.unreachable for followed in self._followed)

    def _tell(self, event: FollowEvent) -> None:
        log(event)
        self._followed.plan.hook(event)

    def _pause(self, followed: FollowedChannel) -> float:
        interval = self._followed.plan.poll_interval
        if followed.unreachable:
            longer = FIRST_RETRY * 2.0 ** min(followed.failures - 1, 16)
            return min(longer, interval) * self._rng.uniform(0.8, 1.2)
        return interval * self._rng.uniform(0.9, 1.1)
