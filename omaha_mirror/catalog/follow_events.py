"""What happens while tracks are followed: each change is one line in the log, and everything can be counted."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from omaha_mirror.catalog.channel import ChannelKey
from omaha_mirror.reasons import Reason

LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Learnt:
    """Upstream leads a track's machines elsewhere than before.

    Attributes:
        channel: of which it was learnt.
        steps: the versions that it leads through now, the target last.
        new: those that were not there before.
        gone: those that were.
    """

    channel: ChannelKey
    steps: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NothingOffered:
    """Upstream offers nothing on a track, and did, or was not asked before; `detail` has its own words."""

    channel: ChannelKey
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A question had no answer, or none that can be used.

    Attributes:
        channel: that was asked about.
        reason: `REFUSED` for an answer that is not to be trusted, `UNREACHABLE` for an outage.
        detail: what happened, for people.
        first: whether this is news.
    """

    channel: ChannelKey
    reason: Reason
    detail: str
    first: bool


@dataclass(frozen=True, slots=True)
class Recovered:
    """Upstream answers again, on every track that it did not."""

    channel: ChannelKey


FollowEvent = Learnt | NothingOffered | Failed | Recovered


def log(event: FollowEvent) -> None:
    """Say what is news."""
    line = LOG.bind(app=event.channel.app_id, board=event.channel.board, track=event.channel.track)
    match event:
        case Learnt(steps=steps, new=new, gone=gone):
            line.info("a track leads elsewhere", steps=steps, new=new, gone=gone)
        case NothingOffered(reason=reason, detail=detail):
            line.warning("upstream offers nothing", reason=reason.value, detail=detail)
        case Failed(reason=Reason.REFUSED, detail=detail, first=True):
            line.warning("upstream's answer is refused; what was known stands", why=detail)
        case Failed(detail=detail, first=True):
            line.warning("upstream cannot be asked; what was known stands", why=detail)
        case Recovered():
            line.info("upstream answers again")
        case _:
            pass
