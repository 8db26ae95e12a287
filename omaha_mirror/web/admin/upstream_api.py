"""`/api/v1/tracks`, `/api/v1/sync` and `/api/v1/fetch`: what upstream offers, and having it here."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from aiohttp import web

from omaha_mirror.ahead import NotHere
from omaha_mirror.catalog import BOARDS
from omaha_mirror.steward import Steward
from omaha_mirror.web.admin.answers import (
    CHANGE,
    READ,
    Route,
    as_json,
    as_lines,
    read_object,
    text,
)
from omaha_mirror.web.errors import BadRequest


class UpstreamApi:
    """Asks a steward."""

    def __init__(self, steward: Steward) -> None:
        self._steward = steward

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route(READ, re.compile(r"/api/v1/tracks"), self._tracks),
            Route(CHANGE, re.compile(r"/api/v1/sync"), self._sync),
            Route(CHANGE, re.compile(r"/api/v1/fetch"), self._fetch),
        )

    async def _tracks(self, _: web.BaseRequest) -> web.StreamResponse:
        return as_json({"tracks": [asdict(status) for status in self._steward.channels()]})

    async def _sync(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ask upstream about one track (`{"track": "stable"}`), or about all."""
        told = await read_object(request)
        track = text(told, "track") if "track" in told else None
        found = await self._steward.sync(track)
        if track is not None and not found:
            raise BadRequest("that track is not one that is followed", 404)
        return as_json({"tracks": [asdict(status) for status in found]})

    async def _fetch(self, request: web.BaseRequest) -> web.StreamResponse:
        """Fetch `{"target": VERSION or TRACK, "board": ...}`; a line of JSON for each step of the progress."""
        told = await read_object(request)
        target, board = text(told, "target"), text(told, "board", BOARDS[0])
        if board not in BOARDS:
            raise BadRequest(f"board must be one of {', '.join(BOARDS)}")
        return await as_lines(request, self._progress(target, board))

    async def _progress(self, target: str, board: str) -> AsyncGenerator[dict[str, Any]]:
        try:
            async with aclosing(self._steward.warm(target, board)) as steps:
                async for step in steps:
                    yield asdict(step)
        except NotHere as error:
            raise BadRequest(str(error), 502 if error.unreachable else 404) from error
