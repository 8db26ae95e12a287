"""Following tracks: upstream is polled about the channels that machines ask about.

- The first check of a machine starts the first walk of its channel, from the beginning. So are one walk a day and the
  walk after each poll that found a version, as floors can change. Other polls ask as the newest version.
- A channel without a check since upstream's last answer is not polled, unless upstream waits for a granted step to be
  reached; the next check resumes the polls, and is answered from the stored steps.
- One question at a time for a channel, and few in all. Machines can name any track, so the number of channels is limited,
  and those that upstream is not known to have take turns.
- After a failure the question is repeated with growing pauses. An interrupted walk goes on where it stopped.
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
    ASK_NOTHING,
    MAX_LEARNT,
    NO_UPSTREAM,
    FollowedChannel,
    FollowedChannels,
    FollowPlan,
    Inquiry,
)
from omaha_mirror.catalog.model import Release
from omaha_mirror.catalog.question_rate_limit import Turns
from omaha_mirror.catalog.upstream_answer import (
    Unusable,
    UpstreamReading,
    read_off_loop,
    read_upstream,
)
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import BadAnswer, Forbidden, TooLarge, UpstreamError

AT_ONCE = 4
"""Simultaneous questions, of all channels."""
DAY = 24 * 3600.0
FIRST_RETRY = 30.0
SHOWN = 16
"""Channels shown to operators that the config does not name and upstream never offered a release on."""
_NOT_TRUSTED = (Unusable, BadAnswer, TooLarge, Forbidden)


class Follower:
    """Follows the channels that machines ask about.

    Args:
        plan: what to ask, and how.
        learnt: called with the releases of a walk when it is over or changed the channel; must not raise.
        forgot: called when a channel is no longer followed; must not raise.
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
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._turns = Turns(clock)
        self._syncing: set[asyncio.Task[float]] = set()
        self._closed = False

    def restore(self, kept: Iterable[KeptChannel]) -> None:
        """Use the channels of an earlier process; the last used ones if there are too many. Before any question."""
        now, age = self._clock.boottime(), self._clock.age
        self._followed.restore(kept, lambda then: now - age(then))

    def change(self, plan: FollowPlan) -> None:
        """Use another plan from now on; pauses that have begun keep their length."""
        self._followed.plan = plan

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        for followed in self._followed:
            followed.channel = rebased(followed.channel, now)
            followed.asked = min(followed.asked, now)

    async def close(self) -> None:
        """Stop asking; the answers of interrupted walks count."""
        self._closed = True
        tasks = [f.task for f in self._followed if f.task is not None]
        for task in (*tasks, *self._syncing):
            task.cancel()
        await asyncio.gather(*tasks, *self._syncing, return_exceptions=True)
        await self._turns.close()

    async def follow(self, key: ChannelKey, wait: float, client: str = "") -> None:
        """Record a check of a machine at the address `client`.

        Waits at most `wait` seconds, only while upstream has never answered, and not for one of many made-up tracks.
        """
        followed = self._awaited(key, client)
        if followed is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await followed.rested.wait()

    def has_answered(self, key: ChannelKey, client: str = "") -> bool:
        """Record a check, too; whether `follow` would not wait."""
        return self._awaited(key, client) is None

    def _awaited(self, key: ChannelKey, client: str) -> FollowedChannel | None:
        """Record a check; gives the channel if upstream's answer about it is to be waited for."""
        followed = self._demand(key, client)
        if followed is None or followed.channel.policy is not None:
            return None
        return None if self._turns.scarce and self._followed.crowded(followed) else followed

    async def sync(self, track: str | None = None) -> None:
        """Walk all channels now, or those of one track, from the beginning."""
        tasks = set()
        for followed in self._followed:
            if track in (None, followed.key.track) and not self._closed:
                tasks.add(asyncio.create_task(self._update(followed, whole=True)))
        self._syncing |= tasks
        for task in tasks:
            task.add_done_callback(self._syncing.discard)
            task.add_done_callback(log_failure)
        if tasks:
            await asyncio.wait(tasks)

    def channel(self, key: ChannelKey) -> Channel:
        """A channel; an empty one if it is not followed."""
        followed = self._followed.get(key)
        return Channel() if followed is None else followed.channel

    def nothing(self, key: ChannelKey) -> tuple[Reason, str]:
        """Why a channel offers nothing, as a reason and its detail."""
        if self._followed.plan is ASK_NOTHING:
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
        """Why there is no valid answer to the last question about a channel; empty if there is."""
        followed = self._followed.get(key)
        return "" if followed is None or followed.trouble is None else followed.trouble[1]

    def kept(self) -> list[KeptChannel]:
        """All followed channels."""
        return [KeptChannel(f.key, f.channel, f.asked) for f in self._followed]

    def configured(self, key: ChannelKey) -> bool:
        """Whether the config names the track of a channel."""
        return self._followed.configured(key)

    def shown(self) -> list[KeptChannel]:
        """The channels that operators see: all, but those with possibly made-up tracks only while they are few."""
        lasting, kept = self.lasting(), self.kept()
        return kept if len(kept) - len(lasting) <= SHOWN else lasting

    def lasting(self) -> list[KeptChannel]:
        """The channels to store: those without possibly made-up tracks."""
        lasts = self._followed.lasts
        return [KeptChannel(f.key, f.channel, f.asked) for f in self._followed if lasts(f)]

    # Questions to upstream

    def _demand(self, key: ChannelKey, client: str) -> FollowedChannel | None:
        if self._closed or not self._followed.plan.asks:
            return None
        now = self._clock.boottime()
        followed = self._followed.get(key) or self._followed.add(key, now, client)
        if followed is not None:
            followed.asked, followed.asked_boottime, followed.wanted = (
                self._clock.stamp(),
                now,
                True,
            )
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
            pause = await self._update(followed)
            followed.wanted |= followed.unreachable
            await self._clock.sleep(pause)

    async def _update(self, followed: FollowedChannel, *, whole: bool = False) -> float:
        """Continue or start a walk, from the beginning if `whole`, and store its result; gives the seconds until the next."""
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
                LOG.exception("a defect ended a walk; it is tried again", key=followed.key)
                trouble = Reason.UNREACHABLE, DEFECT
            finally:
                if walks:
                    self._take_in(followed, walks)
                if walks or trouble:
                    self._note_trouble(followed, trouble)
                followed.rested.set()
            return self._pause(followed)

    async def _walk(self, followed: FollowedChannel, walks: list[Walk]) -> None:
        """Ask until upstream has nothing newer; adds each walk with an answer to `walks`."""
        while True:
            walk = self._next(followed)
            going = True
            while going:
                answer = await self._question(followed.key, walk.asks)
                if not walks or walks[-1] is not walk:
                    walks.append(walk)
                going = walk.take(answer)
            if walk.known is None or not (walk.ended and walk.given):
                break
            followed.whole_due = 0.0
        if walk.known is None and walk.ended:
            followed.whole_due = self._clock.boottime() + DAY

    def _next(self, followed: FollowedChannel) -> Walk:
        """The interrupted walk if it is less than a day old, else a new one."""
        now = self._clock.boottime()
        if followed.walk is None or followed.walk.ended or now >= followed.stale:
            offered = followed.channel.offered
            poll = bool(offered) and now < followed.whole_due
            followed.walk = Walk(offered[-1].version if poll else None)
            followed.stale = now + DAY
        return followed.walk

    async def _question(self, key: ChannelKey, version: str) -> UpstreamReading:
        async with self._asking:
            response = await self._followed.plan.ask(Inquiry(*key, version))
        allowed, now = self._followed.plan.allowed, self._clock.stamp()
        return await read_off_loop(
            response,
            partial(read_upstream, app_id=key.app_id, board=key.board, allowed=allowed, now=now),
        )

    # Results

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
            self._report(Learnt(followed.key, tuple(after), added, gone))
        elif not after and new.policy is not old.policy:
            self._report(NothingOffered(followed.key, *new.nothing))

    def _note_trouble(self, followed: FollowedChannel, trouble: tuple[Reason, str] | None) -> None:
        before, was_down = followed.trouble, self._down()
        followed.trouble = trouble
        followed.failures = 0 if trouble is None else followed.failures + 1
        if trouble is not None:
            first = not was_down if followed.unreachable else trouble != before
            self._report(Failed(followed.key, *trouble, first))
        if was_down and not self._down():
            self._report(Recovered(followed.key))

    def _down(self) -> bool:
        return any(followed.unreachable for followed in self._followed)

    def _report(self, event: FollowEvent) -> None:
        log(event)
        self._followed.plan.hook(event)

    def _pause(self, followed: FollowedChannel) -> float:
        interval = self._followed.plan.poll_interval
        if followed.unreachable:
            longer = FIRST_RETRY * 2.0 ** min(followed.failures - 1, 16)
            return min(longer, interval) * self._rng.uniform(0.8, 1.2)
        return interval * self._rng.uniform(0.9, 1.1)
