"""What is known of a channel: where upstream leads the machines of one application, board and track.

Upstream's policy counts at once; its trouble takes nothing away. A walk from the beginning that came to its end says
what the steps are; anything less only adds to them. When a version was first seen upstream is remembered also
while nothing is offered, so that a night's pause upstream does not start a delay anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from omaha_mirror.catalog.model import LookupResult, Step
from omaha_mirror.catalog.upstream_answer import NO_SUCH_TRACK, UpstreamPolicy
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.omaha import Version
from omaha_mirror.reasons import Reason


class ChannelKey(NamedTuple):
    """What upstream is asked about: the application's id in lower case, the board and the track."""

    app_id: str
    board: str
    track: str


@dataclass(frozen=True, slots=True)
class Channel:
    """What upstream said of a channel. Times are seconds since the epoch, 0 for never.

    Attributes:
        steps: where it last led, oldest first, the target last; nothing is known of a version here.
        policy: whether it leads there now; None before the first answer.
        detail: upstream's own words, or what is strange about its answer.
        answered: when it last answered.
        walked: when it was last walked from the beginning to the end.
    """

    steps: tuple[Step, ...] = ()
    policy: UpstreamPolicy | None = None
    detail: str = ""
    answered: float = 0.0
    walked: float = 0.0

    @property
    def offered(self) -> tuple[Step, ...]:
        """The steps, if upstream offers them."""
        return self.steps if self.policy is UpstreamPolicy.OFFERS else ()

    @property
    def nothing(self) -> tuple[Reason, str]:
        """Why nothing is offered, as a reason and its detail."""
        match self.policy:
            case UpstreamPolicy.NO_UPDATE:
                return Reason.NO_UPDATE_UPSTREAM, self._detail
            case UpstreamPolicy.WITHDRAWN:
                return Reason.WITHDRAWN, self._detail
            case UpstreamPolicy.BUSY:
                return Reason.BUSY, self.detail
            case _:
                return Reason.WARMING, ""

    @property
    def _detail(self) -> str:
        """What upstream said; where it never led anywhere, with what may be the matter."""
        if self.steps or NO_SUCH_TRACK in self.detail:
            return self.detail
        return f"{self.detail}; {NO_SUCH_TRACK}" if self.detail else NO_SUCH_TRACK


@dataclass(frozen=True, slots=True)
class KeptChannel:
    """A channel as it is remembered; `asked` is when a machine last asked, in seconds since the epoch."""

    key: ChannelKey
    channel: Channel
    asked: float


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step as operators see it: `state` is `offered`, or why it is not."""

    version: str
    floor: bool
    seen: float
    state: Reason


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel as operators see it. Times are seconds since the epoch, 0 for never.

    Attributes:
        app_id: lower case, without braces.
        board: such as `amd64-usr`.
        track: as machines name it.
        steps: that machines are led through now, oldest first.
        reason: why there are none; `offered` if there are.
        detail: the same in upstream's own words.
        trouble: why upstream's last answer could not be had or used; empty if it could.
        answered: when upstream last answered.
        walked: when it was last asked about everything.
        asked: when a machine last asked.
    """

    app_id: str
    board: str
    track: str
    steps: tuple[StepStatus, ...]
    reason: Reason
    detail: str
    trouble: str
    answered: float
    walked: float
    asked: float

    @property
    def stuck(self) -> StepStatus | None:
        """The first step that machines cannot have, and that time alone does not bring."""
        going = (Reason.OFFERED, Reason.WARMING, Reason.DELAYED)
        return next((step for step in self.steps if step.state not in going), None)


def status(
    kept: KeptChannel,
    known: Callable[[Step], LookupResult],
    nothing: tuple[Reason, str],
    trouble: str,
    now: float,
) -> ChannelStatus:
    """A channel for operators.

    Args:
        kept: the channel.
        known: what is known of a step.
        nothing: why it has none, as a reason and its detail.
        trouble: why upstream's last answer could not be had or used.
        now: no time is shown that lies after it.
    """
    channel, steps = rebased(kept.channel, now), []
    for step in channel.offered:
        here = known(step)
        state = Reason.OFFERED if here.release is not None else here.reason
        steps.append(StepStatus(step.version, step.floor, step.seen, state))
    reason, detail = (Reason.OFFERED, channel.detail) if steps else nothing
    return ChannelStatus(
        *kept.key,
        steps=tuple(steps),
        reason=reason,
        detail=detail,
        trouble=trouble,
        answered=channel.answered,
        walked=channel.walked,
        asked=min(kept.asked, now),
    )


def merged(old: Channel, walk: Walk, now: float) -> Channel:
    """What is known after a walk, ended or not, that upstream last answered at `now`."""
    whole = walk.known is None and walk.ended
    new = replace(old, detail=walk.detail, answered=now, walked=now if whole else old.walked)
    if walk.policy is UpstreamPolicy.WITHDRAWN:
        return replace(new, policy=UpstreamPolicy.WITHDRAWN)
    if whole:
        if not walk.given:
            return replace(new, policy=UpstreamPolicy.NO_UPDATE)
        return replace(new, policy=UpstreamPolicy.OFFERS, steps=_steps(old, walk.steps, now))
    if walk.given:
        return replace(new, policy=UpstreamPolicy.OFFERS, steps=_added(old, walk, now))
    if not old.offered and walk.policy is UpstreamPolicy.BUSY:
        return replace(new, policy=UpstreamPolicy.BUSY)
    return new


def _added(old: Channel, walk: Walk, now: float) -> tuple[Step, ...]:
    """Where it leads with what the walk adds. What a machine was led on from is a floor until a whole walk denies it."""
    floors = {step.version: step.floor or step.version == walk.known for step in old.offered}
    for version, floor in walk.steps.items():
        floors[version] = floor or floors.get(version, False)
    return _steps(old, floors, now)


def _steps(old: Channel, floors: Mapping[str, bool], now: float) -> tuple[Step, ...]:
    seen = {step.version: step.seen for step in old.steps}
    return tuple(
        Step(version, floor=floors[version], seen=seen.get(version, now))
        for version in sorted(floors, key=Version.parse)
    )


def rebased(channel: Channel, now: float) -> Channel:
    """The same, of which nothing lies in the future any more: what does began just now."""
    return replace(
        channel,
        steps=tuple(replace(step, seen=min(step.seen, now)) for step in channel.steps),
        answered=min(channel.answered, now),
        walked=min(channel.walked, now),
    )


def floors(kept: Iterable[KeptChannel], app_id: str, board: str) -> tuple[Step, ...]:
    """All floors, oldest first, of whatever track, also where nothing is offered at the moment."""
    found = {
        step.version: step
        for item in kept
        if item.key[:2] == (app_id, board)
        for step in item.channel.steps
        if step.floor
    }
    return tuple(sorted(found.values(), key=_age))


def below(floors: Sequence[Step], version: str) -> tuple[Step, ...]:
    """Those of sorted floors that are older than a version."""
    return tuple(floors[: bisect_left(floors, Version.parse(version), key=_age)])


def _age(step: Step) -> Version:
    return Version.parse(step.version)
