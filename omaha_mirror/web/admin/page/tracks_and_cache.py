"""Tracks and the cache as the status page shows them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from omaha_mirror.cache.inventory import Blob, Contents
from omaha_mirror.catalog.channel import ChannelStatus, StepStatus
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule
from omaha_mirror.policy.tracks import TrackPath
from omaha_mirror.text import size, some, span
from omaha_mirror.web.admin.page.rendering import Moment, file_of, moment, percent
from omaha_mirror.web.admin.page.svg import WIDTH

MAX_TRACKS = 100
MAX_BLOBS = 25


@dataclass(frozen=True, slots=True)
class TrackView:
    """A track on one board.

    Attributes:
        mode: what its machines are to get, in words.
        override: since when an operator's word stands in the config's place.
        upstream: where upstream leads, or why nowhere.
        offered: what its machines are offered.
        seen: when upstream first offered that.
        answered: when upstream last answered.
        trouble: what keeps upstream's newest from being known or offered.
    """

    track: str
    board: str
    mode: str
    override: Moment | None
    upstream: str
    offered: str
    seen: Moment | None
    answered: Moment | None
    trouble: str
    machines: str


def mode(rule: Rule) -> str:
    """A rule in words."""
    match rule:
        case Hold():
            return "held"
        case Relay(upstream_track=track):
            return f"relayed as {track}" if track else "relayed"
        case Pin(version=version):
            return f"pinned to {version}"
        case Follow(delay=delay, ramp=ramp, max_version=newest, upstream_track=track):
            limits = (
                f"delayed {span(delay)}" if delay else "",
                f"over {span(ramp)}" if ramp else "",
                f"up to {newest}" if newest else "",
            )
            led = f"follows upstream's {track}" if track else "follows upstream"
            return ", ".join((led, *filter(None, limits)))


def tracks(
    paths: Iterable[TrackPath],
    named: Iterable[str],
    machines: Mapping[str, int] | None,
    rule: Callable[[str], Rule],
    overridden: Mapping[str, float],
    now: float,
) -> list[TrackView]:
    """All tracks that are named: by upstream, the config, an operator or a machine.

    Args:
        paths: where they lead, as far as that is known.
        named: in the config or by an operator.
        machines: how many there are by their track; None where the database does not answer.
        rule: gives the rule in force on a track.
        overridden: when operators set another rule than the config's, by track, in seconds since the epoch.
        now: seconds since the epoch.
    """
    led: list[tuple[str, TrackPath | None]] = [(path.status.track, path) for path in paths]
    others = {*named, *(machines or ())} - {track for track, _ in led} - {""}
    led += [(track, None) for track in others]
    return [
        _track(track, path, rule(track), _count(machines, track), overridden.get(track), now)
        for track, path in sorted(led, key=lambda item: item[0])[:MAX_TRACKS]
    ]


def _track(
    track: str,
    path: TrackPath | None,
    rule: Rule,
    machines: str,
    overridden: float | None,
    now: float,
) -> TrackView:
    offered = path.offered if path is not None else None
    answered = path.status.answered if path is not None else 0.0
    return TrackView(
        track=track,
        board=path.status.board if path is not None else "",
        mode=mode(rule),
        override=moment(overridden, now) if overridden is not None else None,
        upstream=_upstream(path.channel if path is not None else None),
        offered=_offered(offered, rule),
        seen=moment(offered.seen, now) if offered is not None and offered.seen else None,
        answered=moment(answered, now) if answered else None,
        trouble=_trouble(path.status, rule) if path is not None else "",
        machines=machines,
    )


def _count(machines: Mapping[str, int] | None, track: str) -> str:
    return f"{machines.get(track, 0):,}" if machines is not None else "unknown"


def _upstream(channel: ChannelStatus | None) -> str:
    if channel is None:
        return "not asked"
    return channel.steps[-1].version if channel.steps else channel.reason.words


def _offered(offered: StepStatus | None, rule: Rule) -> str:
    match rule:
        case Hold():
            return f"nothing: {rule.reason.words}"
        case Relay():
            return "what upstream answers each machine"
        case _ if offered is not None:
            return offered.version
        case Pin(version=version):
            return f"{version}, when it is known"
        case Follow():
            return "nothing yet"


def _trouble(status: ChannelStatus, rule: Rule) -> str:
    if not isinstance(rule, Follow):
        return ""
    stuck = status.stuck
    if status.trouble or stuck is None:
        return status.trouble
    return f"{stuck.version} is not offered: {stuck.state.words}"


@dataclass(frozen=True, slots=True)
class BlobView:
    """A package that is here."""

    file: str
    key: str
    size: str
    used: Moment
    verified: Moment | None
    notes: str


@dataclass(frozen=True, slots=True)
class Gauge:
    """A fill level: in words, in percent, and as the length of a bar."""

    words: str
    percent: int
    length: float
    level: str = "ok"


@dataclass(frozen=True, slots=True)
class CacheView:
    """What is here, and the room that it takes."""

    room: Gauge
    disk: str
    blobs: tuple[BlobView, ...]
    more: int
    leftovers: str


def cache(contents: Contents, now: float) -> CacheView:
    """A cache's contents, last used first."""
    full = percent(contents.used, contents.max_size)
    short = contents.free < contents.min_free
    put_aside = sum(1 for item in contents.leftovers if item.kind == "quarantine")
    return CacheView(
        room=Gauge(
            f"{size(contents.used)} of {size(contents.max_size)}",
            full,
            WIDTH * min(1.0, contents.used / contents.max_size),
            "bad" if short else "ok",
        ),
        disk=f"{size(contents.free)} free on the disk, {size(contents.min_free)} must stay free",
        blobs=tuple(_blob(blob, now) for blob in contents.blobs[:MAX_BLOBS]),
        more=max(0, contents.count - MAX_BLOBS),
        leftovers=f"{some(put_aside, 'wrong file')} put aside" if put_aside else "",
    )


def _blob(blob: Blob, now: float) -> BlobView:
    notes = (
        some(blob.readers, "reader") if blob.readers else "",
        "offered now" if blob.offered else "",
        f"proven by {blob.proven_by}" if blob.proven_by else "",
        f"signed by {blob.signed_by}" if blob.signed_by else "",
    )
    return BlobView(
        file=file_of(blob.source) or blob.key,
        key=blob.key,
        size=size(blob.size),
        used=moment(blob.last_used, now),
        verified=moment(blob.verified, now) if blob.verified else None,
        notes=", ".join(filter(None, notes)),
    )
