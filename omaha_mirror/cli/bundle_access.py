"""How bundles get out of a mirror and into it: through its admin listener while it runs, else on disk."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import asdict
from typing import Protocol

from omaha_mirror.bundle import Announced, BadBundle, Exporter, ExportRequest, Importer
from omaha_mirror.bundle.files import read_file
from omaha_mirror.cache import Cache, DiskStore, Ledger
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.lock import DirectoryLock, in_use
from omaha_mirror.catalog import Catalog, LookupRequest, LookupResult, PackageFile, Reason, at_hand
from omaha_mirror.catalog.followed import FollowPlan
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.running import Json, RunningMirror, reach
from omaha_mirror.config import Config
from omaha_mirror.packages.expected import expected
from omaha_mirror.packages.library import OfferedKeys
from omaha_mirror.packages.payload_prover import PayloadProvers, keys_in
from omaha_mirror.packages.prefetch import NothingToFetch
from omaha_mirror.policy.check_decision import rule_in_force
from omaha_mirror.policy.overrides import Overrides

AT = "/api/v1/bundle/"


class BundleAccess(Protocol):
    """Bundles of a mirror. All raise Failure."""

    def prepare(self, request: ExportRequest) -> AsyncGenerator[Json]:
        """Have all packages of a bundle here; tells how far each is."""

    async def announce(self, request: ExportRequest) -> Announced:
        """What a bundle will be."""

    def stream(self, request: ExportRequest, offset: int) -> AsyncGenerator[bytes]:
        """A bundle from an offset on."""

    async def take_in(self, chunks: AsyncGenerator[bytes]) -> Json:
        """Take a bundle in; tells what came of it. Raises what the chunks raise as well."""


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
        if os.geteuid() not in (owner,):
            raise Failure(
                f"{folder} belongs to the user with the id {owner}: start the mirror, or run this as that user"
            )
    with closing(DirectoryLock(directory, config.state_directory)):
        async with _stopped(config) as access:
            yield access


class _Running:
    """Asks the mirror that runs."""

    def __init__(self, mirror: RunningMirror) -> None:
        self._mirror = mirror

    def prepare(self, request: ExportRequest) -> AsyncGenerator[Json]:
        return self._mirror.lines(f"{AT}prepare", asdict(request))

    async def announce(self, request: ExportRequest) -> Announced:
        return Announced(**await self._mirror.ask("POST", f"{AT}announce", asdict(request)))

    def stream(self, request: ExportRequest, offset: int) -> AsyncGenerator[bytes]:
        return self._mirror.receive(f"{AT}export", {**asdict(request), "offset": offset})

    async def take_in(self, chunks: AsyncGenerator[bytes]) -> Json:
        failed: list[Exception] = []
        try:
            return await self._mirror.send(f"{AT}import", _noting(chunks, failed))
        except Failure as error:
            raise failed[0] if failed else error from None


async def _noting(chunks: AsyncIterable[bytes], failed: list[Exception]) -> AsyncGenerator[bytes]:
    """The same; aiohttp makes a lost connection of what fails while it sends."""
    try:
        async for chunk in chunks:
            yield chunk
    except (BadBundle, OSError) as error:
        failed.append(error)
        raise


@asynccontextmanager
async def _stopped(config: Config) -> AsyncIterator[BundleAccess]:
    """Works on the directories of a mirror that does not run, and asks nobody."""
    up, state = config.upstream, config.state_directory
    store = DiskStore(config.cache.directory)
    ledger = Ledger(config.cache.max_size, config.cache.min_free)
    keys = keys_in(up.key_files)
    cache = Cache(
        store,
        ledger,
        keep=lambda key: offered(key),  # noqa: PLW0108 (the catalog is made below)
        provers=PayloadProvers(lambda: keys),
    )
    overrides = Overrides(state / "overrides.json")
    await overrides.start()

    def holds(file: PackageFile) -> bool:
        return cache.holds(expected(file).key)

    async def learn(wanted: LookupRequest) -> LookupResult:
        if wanted.imported and wanted.told is not None:
            return at_hand(wanted, wanted.told, holds)
        return LookupResult(reason=Reason.UNREACHABLE, detail="the mirror does not run")

    plan = FollowPlan(app_ids=up.app_ids, tracks=tuple(config.tracks))
    catalog = Catalog(learn, state / "catalog.json", up.payload_name, plan)
    offered = OfferedKeys(catalog)
    await cache.start()
    await catalog.start()
    try:
        exporter = Exporter(
            catalog,
            lambda track: rule_in_force(track, config, overrides),
            up.app_ids,
            holds,
            lambda member, start: read_file(store.path(expected(member.file).key), start),
        )
        yield _Stopped(exporter, Importer(cache, catalog, up.app_ids))
    finally:
        await cache.close()
        await catalog.close()


class _Stopped:
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

    async def take_in(self, chunks: AsyncGenerator[bytes]) -> Json:
        try:
            return asdict(await self._importer.take_in(chunks))
        except CacheError as error:
            raise Failure(str(error)) from None
