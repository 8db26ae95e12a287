"""`/api/v1/sync` and `/api/v1/fetch`: asking upstream, and having here what it offers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, field_validator

from omaha_mirror.catalog import BOARDS
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.packages.prefetch import FetchProgress
from omaha_mirror.packages.warm_up import WarmUp
from omaha_mirror.policy.tracks import NothingToFetch
from omaha_mirror.web.admin.answers import (
    CHANGE,
    LINES,
    Question,
    Route,
    as_json,
    as_lines,
    read_model,
)
from omaha_mirror.web.errors import BadRequest

Text = Annotated[str, Field(max_length=200)]


class Sync(Question):
    """Which track upstream is asked about; all that are followed, if none is named."""

    track: Text | None = None


class Fetch(Question):
    """What is fetched: a version, or where a track leads now."""

    target: Text
    board: Annotated[str, Field(json_schema_extra={"enum": list(BOARDS)})] = BOARDS[0]

    @field_validator("board")
    @classmethod
    def _is_one(cls, board: str) -> str:
        if board not in BOARDS:
            raise ValueError(f"board must be one of {', '.join(BOARDS)}")
        return board


@dataclass(frozen=True, slots=True)
class Synced:
    """What is known now of each application, board and track that was asked about."""

    tracks: tuple[ChannelStatus, ...]


class UpstreamApi:
    """Asks a warm_up."""

    def __init__(self, warm_up: WarmUp) -> None:
        self._warm_up = warm_up

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
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
            raise BadRequest("that track is not one that is followed", 404)
        return as_json(asdict(Synced(tuple(found))))

    async def _fetch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Fetch a version, or what a track leads to now; a line for each step of the progress."""
        told = await read_model(request, Fetch)
        return await as_lines(request, self._progress(told.target, told.board))

    async def _progress(self, target: str, board: str) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with aclosing(self._warm_up.warm(target, board)) as steps:
                async for step in steps:
                    yield asdict(step)
        except NothingToFetch as error:
            raise BadRequest(str(error), 502 if error.unreachable else 404) from error
