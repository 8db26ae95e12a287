"""The followed channels. Machines can name any track, so the number of channels that the config does not name is limited.

A channel is known once upstream offered a release on it. Unknown channels have a limit of their own: a further one
replaces the oldest of the client that named most. A known channel is replaced if no machine asked about it for an hour,
or if its client named more channels than others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel
from omaha_mirror.catalog.follow_events import FollowEvent
from omaha_mirror.catalog.model import BOARDS
from omaha_mirror.catalog.question_rate_limit import FEW, surplus
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.omaha import Response
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import Forbidden, Unreachable


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question to upstream: which update does a machine of this track with this version get?"""

    app_id: str
    board: str
    track: str
    version: str


Ask = Callable[[Inquiry], Awaitable[Response]]
"""Asks an Omaha server, within a deadline and a limit. Raises UpstreamError."""


async def _no_server(_: Inquiry) -> Response:
    raise Unreachable("there is no Omaha server to ask", "upstream.omaha_url")


def _no_address(url: str) -> None:
    raise Forbidden("nothing is fetched from anywhere", url)


def _ignore(_: FollowEvent) -> None:
    pass


@dataclass(frozen=True, slots=True)
class FollowPlan:
    """How tracks are followed.

    Attributes:
        app_ids: the applications to ask about.
        ask: the port to upstream.
        allowed: raises `Forbidden` for a URL that packages may not come from.
        tracks: the configured ones: the limit on channels does not apply to them.
        poll_interval: seconds from one poll of a channel to the next.
        hook: called with each event; must not raise.
    """

    app_ids: Collection[str] = ()
    ask: Ask = _no_server
    allowed: Callable[[str], object] = _no_address
    tracks: Collection[str] = ()
    poll_interval: float = 900.0
    hook: Callable[[FollowEvent], None] = _ignore

    @property
    def asks(self) -> bool:
        """Whether there is a server to ask."""
        return self.ask is not _no_server


CHANNELS = ("alpha", "beta", "stable", "lts")
"""Flatcar's channels, by the second number of the versions on them (flatcar.org/docs, release channels)."""


def channel_of(version: str) -> str:
    """The Flatcar channel of a version; empty for a version of no channel."""
    _, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return CHANNELS[int(minor)] if minor in ("0", "1", "2", "3") else ""


ASK_NOTHING = FollowPlan()
"""The plan without a server."""
NO_UPSTREAM = "upstream.omaha_url is null: pin the track, or import a release"
"""Why a followed track has no steps under this plan."""


MAX_LEARNT = 64
"""Followed channels whose track the config does not name: so many known ones, and as many unknown."""
MAX_TRACK = 128
"""Characters in the name of a track."""
UNUSED = 3600.0
"""Seconds without a check after which a channel may be replaced."""


@dataclass(slots=True, eq=False)
class FollowedChannel:
    """A channel that is followed.

    Attributes:
        key: of the channel.
        client: the address that named it first.
        channel: upstream's answers about it.
        asked: time of the last machine's check, in seconds since the epoch.
        asked_boottime: the same by the clock's `boottime`.
        wanted: whether a machine checked since upstream's last answer.
        trouble: why there is no valid answer to the last question, as a reason and its detail.
        failures: number of such questions in a row.
        walk: the last one; an interrupted one is continued.
        whole_due: time of the next walk from the beginning, by `boottime`.
        stale: time after which the walk is not continued, by `boottime`.
        task: polls, and sleeps between polls.
        turn: held while upstream is asked.
        rested: set while upstream is not asked.
    """

    key: ChannelKey
    client: str = ""
    channel: Channel = field(default_factory=Channel)
    asked: float = 0.0
    asked_boottime: float = 0.0
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
        """Whether it is polled without a further check."""
        return self.task is not None and not self.task.done()

    @property
    def known(self) -> bool:
        """Whether upstream ever offered a release on it."""
        return bool(self.channel.steps) or (self.walk is not None and bool(self.walk.given))

    @property
    def pending(self) -> bool:
        """Whether upstream waits for a granted version to be reached."""
        return self.walk is not None and self.walk.pending

    @property
    def unreachable(self) -> bool:
        """Whether the last question failed by an outage."""
        return self.trouble is not None and self.trouble[0] is Reason.UNREACHABLE


class FollowedChannels:
    """The followed channels, by key. `plan` may change; `forgot` is called when one is removed."""

    def __init__(self, plan: FollowPlan, forgot: Callable[[], None]) -> None:
        self.plan = plan
        self._forgot = forgot
        self._followed: dict[ChannelKey, FollowedChannel] = {}

    def __iter__(self) -> Iterator[FollowedChannel]:
        return iter(self._followed.values())

    def get(self, key: ChannelKey) -> FollowedChannel | None:
        """A followed channel; None if it is not followed."""
        return self._followed.get(key)

    def restore(self, kept: Iterable[KeptChannel], convert: Callable[[float], float]) -> None:
        """Follow stored channels: the configured ones, and the last used of the known ones, up to the limit.

        Args:
            kept: the stored channels.
            convert: turns a time since the epoch into `boottime`.
        """
        free = MAX_LEARNT
        for item in sorted(kept, key=lambda item: item.asked, reverse=True):
            followed = FollowedChannel(item.key, channel=item.channel, asked=item.asked)
            followed.asked_boottime = convert(item.asked)
            if not self._possible(item.key):
                continue
            if not self.configured(item.key):
                if not followed.known or not free:
                    continue
                free -= 1
            self._followed[item.key] = followed

    def add(self, key: ChannelKey, now: float, client: str = "") -> FollowedChannel | None:
        """Follow a further channel; None if the limit does not allow it at `now`, by `boottime`."""
        if not self.may_add(key, now, client):
            return None
        if not self.configured(key):
            unknown = [followed for followed in self._learnt() if not followed.known]
            if len(unknown) >= MAX_LEARNT:
                self._forget(_surplus(unknown))
        followed = self._followed[key] = FollowedChannel(key, client)
        return followed

    def may_add(self, key: ChannelKey, now: float, client: str = "") -> bool:
        """Whether a further channel can be followed."""
        if not self._possible(key):
            return False
        return self.configured(key) or self._may_go(now, client) is not None or self._free() > 0

    def grown(self, followed: FollowedChannel, now: float) -> None:
        """Apply the limit on known channels after a walk of this one."""
        if not self.configured(followed.key) and followed.known and self._free() < 0:
            self._forget(self._may_go(now, followed.client, but=followed))

    def configured(self, key: ChannelKey) -> bool:
        """Whether its track is named in the config."""
        return key.track in self.plan.tracks

    def lasts(self, followed: FollowedChannel) -> bool:
        """Whether to store the channel, and show it where the number of names is limited."""
        return followed.known or self.configured(followed.key)

    def crowded(self, followed: FollowedChannel) -> bool:
        """Whether it is one of many unknown channels of one client."""
        alike = (f for f in self if f.client == followed.client and not self.lasts(f))
        return not self.lasts(followed) and sum(1 for _ in alike) > FEW

    def _possible(self, key: ChannelKey) -> bool:
        known = key.app_id in self.plan.app_ids and key.board in BOARDS
        return known and len(key.track) <= MAX_TRACK

    def _learnt(self) -> list[FollowedChannel]:
        return [followed for followed in self if not self.configured(followed.key)]

    def _free(self) -> int:
        return MAX_LEARNT - sum(followed.known for followed in self._learnt())

    def _may_go(
        self, now: float, client: str, but: FollowedChannel | None = None
    ) -> FollowedChannel | None:
        """The known channel to replace by a further one of a client, or by `but`; None if there is none."""
        known = [followed for followed in self._learnt() if followed.known and followed is not but]
        known.sort(key=lambda followed: followed.asked_boottime)
        if known and known[0].asked_boottime < now - UNUSED:
            return known[0]
        held = Counter(followed.client for followed in known)
        most = _surplus(known) if known else None
        if most is None or held[most.client] <= 1:
            return None
        if most.client == client or held[most.client] > held[client] + 1:
            return most
        return None

    def _forget(self, followed: FollowedChannel | None) -> None:
        if followed is not None:
            del self._followed[followed.key]
            self._forgot()
            if followed.task is not None:
                followed.task.cancel()
            followed.rested.set()


def _surplus(channels: Iterable[FollowedChannel]) -> FollowedChannel:
    return surplus({followed: followed.client for followed in channels})
