"""`/api/v1/sync` and `/api/v1/fetch`: ask upstream now, and fetch a release ahead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import Field

from omaha_mirror.catalog import BOARDS
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.packages.prefetch import FetchProgress
from omaha_mirror.packages.warm_up import WarmUp
from omaha_mirror.web.admin.answers import (
    CHANGE,
    LINES,
    Board,
    Question,
    Route,
    as_json,
    as_lines,
    read_model,
    something_to_fetch,
)
from omaha_mirror.web.errors import BadRequest

Text = Annotated[str, Field(max_length=200)]


class Sync(Question):
    """Which track upstream is asked about; all that are followed, if none is named."""

    track: Text | None = None


class Fetch(Question):
    """What is fetched: a version, or where a track leads now."""

    target: Text
    board: Board = BOARDS[0]


@dataclass(frozen=True, slots=True)
class Synced:
    """What is known now of each application, board and track that was asked about."""

    tracks: tuple[ChannelStatus, ...]


class UpstreamApi:
    """Asks upstream, and fetches from it."""

    def __init__(self, warm_up: WarmUp) -> None:
        self._warm_up = warm_up

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        return (
            Route(CHANGE, re.compile(r"/api/v1/sync"), self._sync, gives=Synced, takes=Sync),
            Route(
                CHANGE,
                re.compile(r"/api/v1/fetch"),
                self._fetch,
                gives=FetchProgress,
                takes=Fetch,
                media=LINES,
            ),
        )

    async def _sync(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ask upstream now about a track, or about all that are followed."""
        track = (await read_model(request, Sync)).track
        found = await self._warm_up.sync(track)
        if track is not None and not found:
            raise BadRequest("the track is not followed", 404)
        return as_json(Synced(tuple(found)))

    async def _fetch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Fetch a version, or what a track leads to now; a line for each step of the progress."""
        wanted = await read_model(request, Fetch)
        with something_to_fetch():
            return await as_lines(request, self._warm_up.warm(wanted.target, wanted.board))
