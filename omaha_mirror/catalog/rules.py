"""What an operator wants the machines of a track to get."""

from __future__ import annotations

from dataclasses import dataclass

from omaha_mirror.reasons import Reason


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing.

    Attributes:
        reason: that machines are told.
    """

    reason: Reason = Reason.HELD


@dataclass(frozen=True, slots=True)
class Pin:
    """One version.

    Attributes:
        version: that is offered.
        packages: names of extra packages that belong to it.
        allow_downgrade: offer it to machines with a newer one too.
        skip_floors: offer it also to machines that are below a version that all must step through.
    """

    version: str
    packages: tuple[str, ...] = ()
    allow_downgrade: bool = False
    skip_floors: bool = False


@dataclass(frozen=True, slots=True)
class Follow:
    """What upstream offers on the track.

    Attributes:
        delay: seconds from when a version is first seen upstream to its first offer.
        ramp: seconds after that in which the turns of the machines come, one after the other.
        max_version: nothing newer is offered.
        upstream_track: the track's name upstream; None for the same.
    """

    delay: float = 0.0
    ramp: float = 0.0
    max_version: str | None = None
    upstream_track: str | None = None


@dataclass(frozen=True, slots=True)
class Relay:
    """What upstream answers the machine itself.

    Attributes:
        upstream_track: the track's name upstream; None for the same.
    """

    upstream_track: str | None = None


Rule = Hold | Pin | Follow | Relay


def track_upstream(track: str, rule: Rule) -> str:
    """What a track is called upstream."""
    named = rule.upstream_track if isinstance(rule, Follow | Relay) else None
    return named or track
