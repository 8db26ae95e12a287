"""How tracks are followed: whom to ask, about what, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from omaha_mirror.catalog.follow_events import FollowEvent
from omaha_mirror.omaha import Response
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
class Following:
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


CHANNELS = ("alpha", "beta", "stable", "lts")
"""Flatcar's channels, by the second number of the versions on them (flatcar.org/docs, release channels)."""


def channel_of(version: str) -> str:
    """The channel that has a version of this number; empty where none has."""
    _, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return CHANNELS[int(minor)] if minor in ("0", "1", "2", "3") else ""


NOBODY = Following()
"""Nothing is asked about."""
