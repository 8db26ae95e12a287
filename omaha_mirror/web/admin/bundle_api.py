"""`/api/v1/bundle/...`: releases as one file, out of this mirror and into it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import structlog
from aiohttp import web
from pydantic import Field

from omaha_mirror.aio.workers import WORK
from omaha_mirror.bundle import (
    Announced,
    BadBundle,
    Bundle,
    Exporter,
    ExportRequest,
    Importer,
    ImportResult,
)
from omaha_mirror.cache.errors import CacheError, InUse, NoSpace
from omaha_mirror.catalog import BOARDS
from omaha_mirror.config.section import Release
from omaha_mirror.packages.prefetch import FetchProgress
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

LOG = structlog.get_logger(__name__)
SILENCE = 60.0
"""Seconds that an upload may pause: memory sticks are slow, and so are the people who swap them."""
TAR = "application/x-tar"
Text = Annotated[str, Field(min_length=1, max_length=128)]


class Wanted(Question):
    """The contents of a bundle: where a track leads, or one version, with the packages of these OEMs."""

    track: Text
    board: Board = BOARDS[0]
    version: Release | None = None
    oems: Annotated[tuple[Text, ...], Field(max_length=64)] = ()

    @property
    def export(self) -> ExportRequest:
        """The same for an exporter."""
        return ExportRequest(self.track, self.board, self.version, self.oems)


class Rest(Wanted):
    """The same from an offset on, in bytes."""

    offset: Annotated[int, Field(ge=0)] = 0


class BundleApi:
    """Exports and imports bundles."""

    def __init__(self, exporter: Exporter, importer: Importer) -> None:
        self._exporter = exporter
        self._importer = importer

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        at = "/api/v1/bundle/"
        return (
            Route(
                CHANGE,
                re.compile(f"{at}prepare"),
                self._prepare,
                gives=FetchProgress,
                takes=Wanted,
                media=LINES,
            ),
            Route(
                CHANGE,
                re.compile(f"{at}announce"),
                self._announce,
                gives=Announced,
                takes=Wanted,
            ),
            Route(
                CHANGE, re.compile(f"{at}export"), self._export, gives=bytes, takes=Rest, media=TAR
            ),
            Route(CHANGE, re.compile(f"{at}import"), self._import, gives=ImportResult, takes=bytes),
        )

    async def _prepare(self, request: web.BaseRequest) -> web.StreamResponse:
        """Download the packages of a bundle that are missing; a line for each step of the progress."""
        export = (await read_model(request, Wanted)).export
        with something_to_fetch():
            return await as_lines(request, self._exporter.prepare(export))

    async def _announce(self, request: web.BaseRequest) -> web.StreamResponse:
        """The size and digest that a bundle will have."""
        bundle = await self._bundle((await read_model(request, Wanted)).export)
        return as_json(await WORK.call(Announced.of, bundle))

    async def _export(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send a bundle, a tar; missing packages are fetched on the way."""
        wanted = await read_model(request, Rest)
        bundle = await self._bundle(wanted.export)
        announced = await WORK.call(Announced.of, bundle)
        response = web.StreamResponse(headers={"Content-Type": TAR})
        response.content_length = max(0, announced.size - wanted.offset)
        await response.prepare(request)
        try:
            async with aclosing(self._exporter.stream(bundle, wanted.offset)) as chunks:
                async for chunk in chunks:
                    await response.write(chunk)
        except (CacheError, OSError) as error:
            LOG.warning("an export was cut off", why=str(error))
            request.protocol.force_close()
        return response

    async def _bundle(self, export: ExportRequest) -> Bundle:
        with something_to_fetch():
            return await self._exporter.bundle(export)

    async def _import(self, request: web.BaseRequest) -> web.StreamResponse:
        """Import a bundle, the body of the request; nothing changes unless all of it is right."""
        chunks = _body(request)
        try:
            return as_json(await self._importer.import_bundle(chunks))
        except (BadBundle, NoSpace, InUse) as error:
            # A client that still sends reads the answer when all is sent, not before.
            async for _ in chunks:
                pass
            LOG.warning("a bundle was refused", why=str(error))
            raise BadRequest(str(error), _status(error)) from error


def _status(error: Exception) -> int:
    match error:
        case BadBundle():
            return 422
        case InUse():
            return 409
        case _:
            return 507


async def _body(request: web.BaseRequest) -> AsyncGenerator[bytes]:
    """The chunks of the body. Raises BadRequest where it pauses for too long."""
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await request.content.readany()
        except TimeoutError:
            raise BadRequest(f"no byte of the bundle came for {SILENCE:.0f} s", 408) from None
        if not chunk:
            return
        yield chunk
