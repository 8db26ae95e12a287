"""Which channels are followed: machines can name any track, so those that are not configured are bounded.

When there is no room, one that no machine asked about for an hour makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from omaha_mirror.catalog.channel import Channel, ChannelKey
from omaha_mirror.catalog.following import Following
from omaha_mirror.catalog.model import BOARDS
from omaha_mirror.catalog.reasons import Reason
from omaha_mirror.catalog.walk import Walk

MAX_LEARNT = 64
"""Channels that are followed although their track is not configured."""
MAX_TRACK = 128
"""Characters in the name of a track."""
UNUSED = 3600.0
"""Seconds after which a channel that no machine asked about may make room."""


@dataclass(slots=True, eq=False)
class Followed:
    """A channel that is followed.

    Attributes:
        key: which one.
        channel: what is known of it.
        asked: when a machine last asked, in seconds since the epoch.
        heard: the same by the clock's `boottime`.
        wanted: whether one did since upstream last answered.
        trouble: why upstream's last answer could not be had or used, as a reason and its detail.
        failures: how many in a row there were of those.
        walk: the last one; it goes on if it was cut short.
        whole_due: when to walk from the beginning again, by `boottime`.
        stale: when not to go on with the walk any more, likewise.
        task: asks, and sleeps in between.
        turn: held while upstream is asked.
        rested: set while it is not.
    """

    key: ChannelKey
    channel: Channel = field(default_factory=Channel)
    asked: float = 0.0
    heard: float = 0.0
    wanted: bool = False
    trouble: tuple[Reason, str] | None = None
    failures: int = 0
    walk: Walk | None = None
    whole_due: float = 0.0
    stale: float = 0.0
    task: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    rested: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.rested.set()

    @property
    def active(self) -> bool:
        """Whether it is asked about again without a machine."""
        return self.task is not None and not self.task.done()

    @property
    def pending(self) -> bool:
        """Whether upstream waits for the version it gave to be reached."""
        return self.walk is not None and self.walk.pending

    @property
    def unreachable(self) -> bool:
        """Whether the trouble is an outage."""
        return self.trouble is not None and self.trouble[0] is Reason.UNREACHABLE


class Roster:
    """The channels that are followed, by key. `plan` says which are asked about, and may change."""

    def __init__(self, plan: Following) -> None:
        self.plan = plan
        self._followed: dict[ChannelKey, Followed] = {}

    def __iter__(self) -> Iterator[Followed]:
        return iter(self._followed.values())

    def get(self, key: ChannelKey) -> Followed | None:
        """One that is followed already."""
        return self._followed.get(key)

    def add(self, key: ChannelKey, now: float) -> Followed | None:
        """One more, or None if there is no room at `now`, by `boottime`."""
        if not self.room(key, now):
            return None
        if not (self.configured(key) or self._free()):
            self._forget(self._idlest(now))
        followed = self._followed[key] = Followed(key)
        return followed

    def room(self, key: ChannelKey, now: float) -> bool:
        """Whether one more can be followed."""
        known = key.app_id in self.plan.app_ids and key.board in BOARDS
        if not known or len(key.track) > MAX_TRACK:
            return False
        return self.configured(key) or self._free() or self._idlest(now) is not None

    def configured(self, key: ChannelKey) -> bool:
        """Whether its track is named in the config."""
        return key.track in self.plan.tracks

    def _free(self) -> bool:
        return sum(not self.configured(key) for key in self._followed) < MAX_LEARNT

    def _idlest(self, now: float) -> Followed | None:
        """The one that was unused longest of those that may make room."""
        idle = (
            followed
            for followed in self
            if not self.configured(followed.key) and followed.heard < now - UNUSED
        )
        return min(idle, key=lambda followed: followed.heard, default=None)

    def _forget(self, followed: Followed | None) -> None:
        if followed is not None:
            del self._followed[followed.key]
            if followed.task is not None:
                followed.task.cancel()
