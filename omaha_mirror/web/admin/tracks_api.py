"""`/api/v1/tracks`: what each track's machines get, and why; and giving a track another rule at run time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web
from pydantic import TypeAdapter

from omaha_mirror import config
from omaha_mirror.catalog import Reason, Release
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.config.rules import track_upstream
from omaha_mirror.omaha import Version
from omaha_mirror.policy.overrides import BadOverride
from omaha_mirror.service import Service
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import (
    CHANGE,
    READ,
    Route,
    as_json,
    as_long_json,
    read_object,
    refuse,
)
from omaha_mirror.web.admin.questions import read_model
from omaha_mirror.web.errors import BadRequest

LOG = structlog.get_logger(__name__)
TRACK = r"/api/v1/tracks/(?P<track>[^/]+)"
_RULE: TypeAdapter[config.Track] = TypeAdapter(config.Track)


@dataclass(frozen=True, slots=True)
class Offered:
    """The version that machines of an application and board are led to."""

    app_id: str
    board: str
    version: str


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A track, as its machines find it.

    Attributes:
        track: as machines name it.
        rule: in force, as the config writes it.
        configured: the config's own.
        overridden: since when an operator's rule is in force in its place; null where none is.
        offered: where machines are led; nothing is on a track that is held or relayed.
        channels: what upstream said of it.
    """

    track: str
    rule: Any
    configured: Any
    overridden: float | None
    offered: tuple[Offered, ...]
    channels: tuple[ChannelStatus, ...]


@dataclass(frozen=True, slots=True)
class Tracks:
    """All tracks that the config, an operator or a machine named. Others have the rule `default`."""

    default: Any
    tracks: tuple[TrackInfo, ...]


class TracksApi:
    """Tells and changes the rules of tracks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route(READ, re.compile(r"/api/v1/tracks"), self._tracks, gives=Tracks),
            Route(READ, re.compile(TRACK), self._track, gives=TrackInfo),
            Route(
                CHANGE, re.compile(rf"{TRACK}/pin"), self._pin, gives=TrackInfo, takes=config.Pin
            ),
            Route(CHANGE, re.compile(rf"{TRACK}/hold"), self._hold, gives=TrackInfo),
            Route(CHANGE, re.compile(rf"{TRACK}/release"), self._release, gives=TrackInfo),
            Route(CHANGE, re.compile(r"/api/v1/tracks/release"), self._release_all, gives=Tracks),
        )

    async def _tracks(self, _: web.BaseRequest) -> web.StreamResponse:
        """The tracks: the rule in force, what is offered, and what upstream said."""
        channels = self._service.availability.channels()
        names = {
            *self._service.config.tracks,
            *(override.track for override in self._service.overrides.all()),
            *(channel.track for channel in channels),
        }
        current = self._service.availability.releases()
        default = self._service.config.default_track

        def make() -> Tracks:
            infos = (self._info(name, channels, current) for name in sorted(names))
            return Tracks(written(default), tuple(infos))

        return await as_long_json(make)

    async def _track(self, _: web.BaseRequest, track: str) -> web.StreamResponse:
        """One track."""
        return self._told(unquote(track))

    async def _pin(self, request: web.BaseRequest, track: str) -> web.StreamResponse:
        """Pin a track to a version until it is released, also across restarts."""
        return await self._put(unquote(track), await read_model(request, config.Pin))

    async def _hold(self, request: web.BaseRequest, track: str) -> web.StreamResponse:
        """Hold a track until it is released, also across restarts: its machines are offered nothing."""
        await read_object(request)
        return await self._put(unquote(track), config.Hold())

    async def _release(self, request: web.BaseRequest, track: str) -> web.StreamResponse:
        """Give a track that was pinned or held at run time back to the config."""
        await read_object(request)
        name = unquote(track)
        try:
            released = await self._service.overrides.remove(name)
        except BadOverride as error:
            raise BadRequest(str(error)) from None
        if released is None:
            return refuse(404, f"track {printable(name)} was not pinned or held at run time")
        LOG.info("a track goes by the config again", track=printable(name))
        return self._told(name)

    async def _release_all(self, request: web.BaseRequest) -> web.StreamResponse:
        """Give all tracks back to the config that are held because what was pinned or held at run time cannot be read."""
        await read_object(request)
        await self._service.overrides.remove_all()
        LOG.info("all tracks whose overrides could not be read go by the config again")
        return await self._tracks(request)

    async def _put(self, track: str, rule: config.Hold | config.Pin) -> web.StreamResponse:
        try:
            override = await self._service.overrides.put(track, rule)
        except BadOverride as error:
            raise BadRequest(str(error)) from None
        LOG.info("a track has another rule", track=track, rule=written(override.rule))
        return self._told(track)

    def _told(self, track: str) -> web.StreamResponse:
        availability = self._service.availability
        return as_json(self._info(track, availability.channels(), availability.releases()))

    def _info(
        self, track: str, channels: Sequence[ChannelStatus], current: Sequence[Release]
    ) -> TrackInfo:
        override = self._service.overrides.get(track)
        rule = self._service.track(track)
        name = track_upstream(track, self._service.rule(track))
        found = tuple(channel for channel in channels if channel.track == name)
        return TrackInfo(
            track=track,
            rule=written(rule),
            configured=written(self._service.config.track(track)),
            overridden=override.since if override is not None else None,
            offered=tuple(offered(rule, found, current)),
            channels=found,
        )


def written(rule: config.Track) -> Any:
    """A rule as the config writes it: a word, a version or an object."""
    return _RULE.dump_python(rule, mode="json")


def offered(
    rule: config.Track, channels: Iterable[ChannelStatus], current: Iterable[Release]
) -> Iterable[Offered]:
    """Where machines of a track are led in the end, by what is known now.

    A machine may have to wait for the delay and the ramp of the track, and to step through floors before.

    Args:
        rule: of the track.
        channels: what upstream said of it.
        current: the releases that are settled.
    """
    match rule:
        case config.Pin(version=version):
            for release in current:
                if release.version == version:
                    yield Offered(release.app_id, release.board, version)
        case config.Follow(max_version=newest):
            for channel in channels:
                versions = [
                    step.version
                    for step in channel.steps
                    if step.state is Reason.OFFERED
                    and (newest is None or Version.parse(step.version) <= Version.parse(newest))
                ]
                if versions:
                    yield Offered(channel.app_id, channel.board, versions[-1])
