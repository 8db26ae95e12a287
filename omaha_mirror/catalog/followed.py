"""Which channels are followed, and how: machines can name any track, so those that are not configured are bounded.

A channel counts as known when upstream led somewhere on it once. Those of which it never did are held apart from those,
and take nobody's place: one more puts the oldest aside, of the client that named most. A known one makes room when no
machine asked about it for an hour, or when it is one of many that one client brought.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel
from omaha_mirror.catalog.follow_events import FollowEvent
from omaha_mirror.catalog.model import BOARDS
from omaha_mirror.catalog.question_turns import FEW, surplus
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.omaha import Response
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import Forbidden, Unreachable


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What upstream is asked: which update a machine of this track gets that runs `version`."""

    app_id: str
    board: str
    track: str
    version: str


Ask = Callable[[Inquiry], Awaitable[Response]]
"""Asks an Omaha server, within a deadline and a limit. Raises UpstreamError."""


async def _nobody(_: Inquiry) -> Response:
    raise Unreachable("there is no Omaha server to ask", "upstream.omaha_url")


def _nowhere(url: str) -> None:
    raise Forbidden("nothing is fetched from anywhere", url)


def _silence(_: FollowEvent) -> None:
    pass


@dataclass(frozen=True, slots=True)
class FollowPlan:
    """How tracks are followed.

    Attributes:
        app_ids: that are asked about.
        ask: the port to upstream.
        allowed: raises `Forbidden` for an address that nothing is fetched from.
        tracks: those that are configured: they are always followed, however many others are.
        poll_interval: seconds from one question about a channel to the next.
        hook: told of everything that happens; must not raise.
    """

    app_ids: Collection[str] = ()
    ask: Ask = _nobody
    allowed: Callable[[str], object] = _nowhere
    tracks: Collection[str] = ()
    poll_interval: float = 900.0
    hook: Callable[[FollowEvent], None] = _silence

    @property
    def asks(self) -> bool:
        """Whether there is anybody to ask."""
        return self.ask is not _nobody


CHANNELS = ("alpha", "beta", "stable", "lts")
"""Flatcar's channels, by the second number of the versions on them (flatcar.org/docs, release channels)."""


def channel_of(version: str) -> str:
    """The channel that has a version of this number; empty where none has."""
    _, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return CHANNELS[int(minor)] if minor in ("0", "1", "2", "3") else ""


NOBODY = FollowPlan()
"""Nothing is asked about."""
NO_UPSTREAM = "upstream.omaha_url is null: pin the track, or import a release"
"""Why a track leads nowhere then."""


MAX_LEARNT = 64
"""Channels that are followed although their track is not configured: so many known ones, and as many others."""
MAX_TRACK = 128
"""Characters in the name of a track."""
UNUSED = 3600.0
"""Seconds after which a channel that no machine asked about may make room."""


@dataclass(slots=True, eq=False)
class FollowedChannel:
    """A channel that is followed.

    Attributes:
        key: which one.
        client: the address that named it first.
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
    client: str = ""
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
    def known(self) -> bool:
        """Whether upstream leads somewhere on it, or did."""
        return bool(self.channel.steps) or (self.walk is not None and bool(self.walk.given))

    @property
    def pending(self) -> bool:
        """Whether upstream waits for the version it gave to be reached."""
        return self.walk is not None and self.walk.pending

    @property
    def unreachable(self) -> bool:
        """Whether the trouble is an outage."""
        return self.trouble is not None and self.trouble[0] is Reason.UNREACHABLE


class FollowedChannels:
    """The channels that are followed, by key. `plan` says which are asked about, and may change; `forgot` is told of each that goes."""

    def __init__(self, plan: FollowPlan, forgot: Callable[[], None]) -> None:
        self.plan = plan
        self._forgot = forgot
        self._followed: dict[ChannelKey, FollowedChannel] = {}

    def __iter__(self) -> Iterator[FollowedChannel]:
        return iter(self._followed.values())

    def get(self, key: ChannelKey) -> FollowedChannel | None:
        """One that is followed already."""
        return self._followed.get(key)

    def restore(self, kept: Iterable[KeptChannel], heard: Callable[[float], float]) -> None:
        """Take up what is worth it of what was known: configured channels, and the known ones used last.

        Args:
            kept: what was known.
            heard: gives a time since the epoch by `boottime`.
        """
        free = MAX_LEARNT
        for item in sorted(kept, key=lambda item: item.asked, reverse=True):
            followed = FollowedChannel(item.key, channel=item.channel, asked=item.asked)
            followed.heard = heard(item.asked)
            if not self._possible(item.key):
                continue
            if not self.configured(item.key):
                if not followed.known or not free:
                    continue
                free -= 1
            self._followed[item.key] = followed

    def add(self, key: ChannelKey, now: float, client: str = "") -> FollowedChannel | None:
        """One more, or None if there is no room at `now`, by `boottime`."""
        if not self.may_add(key, now, client):
            return None
        if not self.configured(key):
            unknown = [followed for followed in self._learnt() if not followed.known]
            if len(unknown) >= MAX_LEARNT:
                self._forget(_surplus(unknown))
        followed = self._followed[key] = FollowedChannel(key, client)
        return followed

    def may_add(self, key: ChannelKey, now: float, client: str = "") -> bool:
        """Whether one more can be followed."""
        if not self._possible(key):
            return False
        return self.configured(key) or self._may_go(now, client) is not None or self._free() > 0

    def grown(self, followed: FollowedChannel, now: float) -> None:
        """Told when one may have become known: where those are too many, another makes room."""
        if not self.configured(followed.key) and followed.known and self._free() < 0:
            self._forget(self._may_go(now, followed.client, but=followed))

    def configured(self, key: ChannelKey) -> bool:
        """Whether its track is named in the config."""
        return key.track in self.plan.tracks

    def lasts(self, followed: FollowedChannel) -> bool:
        """Whether it is worth remembering, and showing where names are bounded."""
        return followed.known or self.configured(followed.key)

    def crowded(self, followed: FollowedChannel) -> bool:
        """Whether it is one of many of which upstream knows nothing, and that one client named."""
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
        """Which known one makes room for one more of a client, or for `but`."""
        known = [followed for followed in self._learnt() if followed.known and followed is not but]
        known.sort(key=lambda followed: followed.heard)
        if known and known[0].heard < now - UNUSED:
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
