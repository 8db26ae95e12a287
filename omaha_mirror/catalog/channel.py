"""A channel: where upstream leads the machines of one application, board and track.

Upstream's policy takes effect at once; an outage changes nothing. A complete walk from the beginning replaces the steps;
any other walk only adds to them. The time at which a version was first seen is stored also while upstream offers
nothing, so that a pause upstream does not restart a delay.
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
    """The application's id in lower case, the board, and the track by its name upstream."""

    app_id: str
    board: str
    track: str


@dataclass(frozen=True, slots=True)
class Channel:
    """Upstream's answers about a channel. Times are seconds since the epoch, 0 for never.

    Attributes:
        steps: the last offered ones, oldest first, the target last; `known` of each is empty.
        policy: of the last answer; None before the first.
        detail: upstream's own words, or what is unusual about its answer.
        answered: time of the last answer.
        walked: time of the last complete walk from the beginning.
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
        """Upstream's words; with a likely cause if it never offered a release here."""
        if self.steps or NO_SUCH_TRACK in self.detail:
            return self.detail
        return f"{self.detail}; {NO_SUCH_TRACK}" if self.detail else NO_SUCH_TRACK


@dataclass(frozen=True, slots=True)
class KeptChannel:
    """A channel as it is stored; `asked` is the time of the last machine's check, in seconds since the epoch."""

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
        trouble: why there is no valid answer to the last question; empty if there is.
        answered: time of upstream's last answer.
        walked: time of the last complete walk from the beginning.
        asked: time of the last machine's check.
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
        """The first step that machines cannot get, and that they will not get merely by waiting."""
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
        known: gives the look-up result of a step.
        nothing: why there are no steps, as a reason and its detail.
        trouble: see `ChannelStatus`.
        now: later times are shown as this one.
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
    """The channel after a walk, complete or not, whose last answer came at `now`."""
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
    """The offered steps and those of the walk. The version that the walk started from is a floor until a complete walk."""
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
    """The channel with times in the future replaced by now."""
    seen = max((step.seen for step in channel.steps), default=0.0)
    if max(seen, channel.answered, channel.walked) <= now:
        return channel
    return replace(
        channel,
        steps=tuple(replace(step, seen=min(step.seen, now)) for step in channel.steps),
        answered=min(channel.answered, now),
        walked=min(channel.walked, now),
    )


def floors(kept: Iterable[KeptChannel], app_id: str, board: str) -> tuple[Step, ...]:
    """The floors of all tracks, oldest first, those of tracks without a current offer included."""
    found = {
        step.version: step
        for item in kept
        if item.key[:2] == (app_id, board)
        for step in item.channel.steps
        if step.floor
    }
    return tuple(sorted(found.values(), key=_age))


def below(floors: Sequence[Step], version: str) -> tuple[Step, ...]:
    """The floors below a version; takes sorted ones."""
    return tuple(floors[: bisect_left(floors, Version.parse(version), key=_age)])


def _age(step: Step) -> Version:
    return Version.parse(step.version)
