"""`/api/v1/tracks`: what each track's machines are offered, and why; holds, pins and releases at run time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import structlog
from aiohttp import web
from pydantic import TypeAdapter

from omaha_mirror import config
from omaha_mirror.catalog import ChannelStatus
from omaha_mirror.policy.track_rules import BadOverride
from omaha_mirror.policy.tracks import TrackPath
from omaha_mirror.service import Service
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import (
    CHANGE,
    READ,
    Route,
    as_json,
    as_long_json,
    read_model,
    read_object,
    refuse,
)
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
        offered: the last version that machines are offered now, floors before it, if its time has come; nothing is on a
            track that is held or relayed.
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
    """Shows and changes the rules of tracks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
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
        by_track: dict[str, list[TrackPath]] = {name: [] for name in self._service.rules.named()}
        for path in await self._service.tracks.paths():
            by_track.setdefault(path.status.track, []).append(path)
        default = self._service.config.default_track

        def make() -> Tracks:
            infos = (self._info(name, paths) for name, paths in sorted(by_track.items()))
            return Tracks(written(default), tuple(infos))

        return await as_long_json(make)

    async def _track(self, _: web.BaseRequest, track: str) -> web.StreamResponse:
        """One track."""
        return await self._one(unquote(track))

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
        return await self._one(name)

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
        return await self._one(track)

    async def _one(self, track: str) -> web.StreamResponse:
        return as_json(self._info(track, await self._service.tracks.of(track)))

    def _info(self, track: str, paths: Iterable[TrackPath]) -> TrackInfo:
        override = self._service.overrides.get(track)
        return TrackInfo(
            track=track,
            rule=written(self._service.rules.written(track)),
            configured=written(self._service.config.track(track)),
            overridden=override.since if override is not None else None,
            offered=tuple(
                Offered(path.status.app_id, path.status.board, path.offered.version)
                for path in paths
                if path.offered is not None
            ),
            channels=tuple(path.channel for path in paths if path.channel is not None),
        )


def written(rule: config.Track) -> Any:
    """A rule as the config writes it: a word, a version or an object."""
    return _RULE.dump_python(rule, mode="json")
