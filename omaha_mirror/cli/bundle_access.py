"""Exports and imports of a mirror: through its admin listener while it runs, else on disk."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict

from omaha_mirror.bundle import Announced, BadBundle, Exporter, ExportRequest, Importer
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.lock import in_use
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.running import Json, RunningMirror, reach
from omaha_mirror.config import Config
from omaha_mirror.offline import Offline
from omaha_mirror.policy.tracks import NothingToFetch

AT = "/api/v1/bundle/"


@asynccontextmanager
async def open_bundles(config: Config) -> AsyncIterator[BundleAccess]:
    """The bundles of the mirror with this config. Raises Failure, OSError."""
    directory = config.cache.directory
    running = in_use(directory)
    if running is not None:
        async with reach(config, running) as mirror:
            yield _Running(mirror)
        return
    for folder in (directory, config.state_directory):
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if os.geteuid() != owner:
            raise Failure(
                f"{folder} belongs to the user with the id {owner}: start the mirror, or run this as that user"
            )
    async with Offline(config).working() as offline:
        yield _Stopped(offline.exporter, offline.importer)


class _Running:
    """Asks the running mirror."""

    def __init__(self, mirror: RunningMirror) -> None:
        self._mirror = mirror

    def prepare(self, request: ExportRequest) -> AsyncGenerator[Json]:
        return self._mirror.lines(f"{AT}prepare", asdict(request))

    async def announce(self, request: ExportRequest) -> Announced:
        return Announced(**await self._mirror.ask("POST", f"{AT}announce", asdict(request)))

    def stream(self, request: ExportRequest, offset: int) -> AsyncGenerator[bytes]:
        return self._mirror.receive(f"{AT}export", {**asdict(request), "offset": offset})

    async def import_bundle(self, chunks: AsyncGenerator[bytes]) -> Json:
        failed: list[Exception] = []
        try:
            return await self._mirror.send(f"{AT}import", _recording(chunks, failed))
        except Failure as error:
            raise failed[0] if failed else error from None


async def _recording(
    chunks: AsyncIterable[bytes], failed: list[Exception]
) -> AsyncGenerator[bytes]:
    """The chunks, and in `failed` the error that ends them: aiohttp turns it into a lost connection."""
    try:
        async for chunk in chunks:
            yield chunk
    except (BadBundle, OSError) as error:
        failed.append(error)
        raise


class _Stopped:
    """Works on the directories of a stopped mirror."""

    def __init__(self, exporter: Exporter, importer: Importer) -> None:
        self._exporter = exporter
        self._importer = importer

    async def prepare(self, request: ExportRequest) -> AsyncGenerator[Json]:
        try:
            async with aclosing(self._exporter.prepare(request)) as steps:
                async for step in steps:
                    yield asdict(step)
        except NothingToFetch as error:
            raise Failure(str(error), Exit.NOT_FOUND) from None

    async def announce(self, request: ExportRequest) -> Announced:
        return Announced.of(await self._exporter.bundle(request))

    async def stream(self, request: ExportRequest, offset: int) -> AsyncGenerator[bytes]:
        async with aclosing(
            self._exporter.stream(await self._exporter.bundle(request), offset)
        ) as it:
            async for chunk in it:
                yield chunk

    async def import_bundle(self, chunks: AsyncGenerator[bytes]) -> Json:
        try:
            return asdict(await self._importer.import_bundle(chunks))
        except CacheError as error:
            raise Failure(str(error)) from None


BundleAccess = _Running | _Stopped
"""The exports and imports of a mirror. `import_bundle` raises what its chunks raise; all raise Failure."""
