"""The events of following tracks: each change is one log line, and metrics count every event."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from omaha_mirror.catalog.channel import ChannelKey
from omaha_mirror.reasons import Reason

LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Learnt:
    """Upstream offers other steps on a track than before.

    Attributes:
        channel: of the track.
        steps: the versions of the steps, the target last.
        new: the added ones.
        gone: the removed ones.
    """

    channel: ChannelKey
    steps: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NothingOffered:
    """Upstream offers nothing on a track, for the first time or again; `detail` has its own words."""

    channel: ChannelKey
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A question got no valid answer.

    Attributes:
        channel: of the question.
        reason: `REFUSED` for an invalid answer, `UNREACHABLE` for an outage.
        detail: what happened, for people.
        first: whether the question before had another result; only then it is logged.
    """

    channel: ChannelKey
    reason: Reason
    detail: str
    first: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """Upstream answers again about every channel."""

    channel: ChannelKey


FollowEvent = Learnt | NothingOffered | Failed | Recovered


def log(event: FollowEvent) -> None:
    """Log an event, unless it repeats the one before."""
    line = LOG.bind(app=event.channel.app_id, board=event.channel.board, track=event.channel.track)
    match event:
        case Learnt(steps=steps, new=new, gone=gone):
            line.info("upstream offers other versions on a track", steps=steps, new=new, gone=gone)
        case NothingOffered(reason=reason, detail=detail):
            line.warning("upstream offers nothing", reason=reason.value, detail=detail)
        case Failed(reason=Reason.REFUSED, detail=detail, first=True):
            line.warning(
                "upstream's answer is refused; the earlier answer stays in force", why=detail
            )
        case Failed(detail=detail, first=True):
            line.warning("upstream does not answer; the earlier answer stays in force", why=detail)
        case Recovered():
            line.info("upstream answers again")
        case _:
            pass
