"""Fetching ahead: what machines will ask for next is fetched before.

With a request for the payload of a release go the packages of the OEMs whose machines asked for it, and those
system extensions that this site has asked for before (flatcar-postinst:150,215 fetches both right after the payload).
All others wait for a demand.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.cache import Cache
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.catalog import Catalog, PackageFile, Release
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.source import expected

LOG = structlog.get_logger(__name__)
EXTENSION = re.compile(r"flatcar-[A-Za-z0-9._-]+\.gz", re.ASCII)
MANY = 1000
"""Packages that are remembered, and names of extensions."""
TICK = 0.5
"""Seconds from one report of progress to the next."""

Fetch = Callable[[PackageFile], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a package is here: bytes, and bytes a second. `error` says why it cannot be had."""

    name: str
    size: int
    filled: int
    rate: float = 0.0
    done: bool = False
    error: str = ""


def chosen(
    release: Release, looked_up: Collection[str], extensions: Collection[str]
) -> list[PackageFile]:
    """The extra packages of a release that are worth fetching with its payload."""
    wanted = {*looked_up, *extensions}
    return [file for file in release.files[1:] if file.name in wanted]


class Prefetch:
    """Watches what machines ask for.

    Args:
        catalog: of releases.
        offered: which of them machines are offered.
        cache: that packages are fetched into.
        fetch: has one package there, proven. Raises CacheError, OSError.
    """

    def __init__(self, catalog: Catalog, offered: Offered, cache: Cache, fetch: Fetch) -> None:
        self._catalog = catalog
        self._offered = offered
        self._cache = cache
        self._fetch = fetch
        self._tried: set[str] = set()
        self._as_of: object = None
        self._seen: set[PackageFile] = set()
        self._extensions: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Remember which extensions were asked for before: those that are here."""
        for blob in (await self._cache.contents()).blobs:
            self._note(blob.source.rpartition("/")[2])

    async def close(self) -> None:
        """Stop fetching ahead; the fills go on as the cache's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_request(self, file: PackageFile) -> None:
        """Begin to fetch what machines ask for after a package that one asks for; once while nothing changes."""
        as_of = self._offered.current()
        if as_of is not self._as_of or len(self._seen) >= MANY:
            self._as_of, self._seen = as_of, set()
        if file in self._seen:
            return
        self._note(file.name)
        for release in self._offered.with_payload(expected(file).key):
            self._begin(self._chosen(release))
        self._seen.add(file)

    async def warm(self, release: Release) -> AsyncGenerator[FetchProgress]:
        """Fetch a release, one package after the other, and tell how far each is."""
        for file in (release.payload, *self._chosen(release)):
            async with aclosing(self.have(file)) as steps:
                async for step in steps:
                    yield step

    async def have(self, file: PackageFile) -> AsyncGenerator[FetchProgress]:
        """Fetch one package, and tell how far it is."""
        fetching = asyncio.ensure_future(self._fetch(file))
        try:
            while not fetching.done():
                yield self._progress(file)
                await asyncio.wait([fetching], timeout=TICK)
            await fetching
            yield FetchProgress(file.name, file.size, file.size, done=True)
        except (CacheError, OSError) as error:
            yield FetchProgress(file.name, file.size, 0, done=True, error=str(error))
        finally:
            fetching.cancel()

    def _chosen(self, release: Release) -> list[PackageFile]:
        return chosen(release, self._catalog.looked_up(release), self._extensions)

    def _begin(self, files: Iterable[PackageFile]) -> None:
        """Fetch those that were not tried yet: one that cannot be had is left to the machines that want it."""
        new = [file for file in files if expected(file).key not in self._tried]
        if not new:
            return
        if len(self._tried) >= MANY:
            self._tried.clear()
        self._tried.update(expected(file).key for file in new)
        task = asyncio.create_task(self._have(new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    def _progress(self, file: PackageFile) -> FetchProgress:
        key = expected(file).key
        for fill in self._cache.fills():
            if fill.key == key:
                return FetchProgress(file.name, file.size, fill.filled, fill.rate)
        return FetchProgress(file.name, file.size, 0)

    def _note(self, name: str) -> None:
        if (
            name not in self._extensions
            and len(self._extensions) < MANY
            and EXTENSION.fullmatch(name)
        ):
            self._extensions.add(name)
            self._seen.clear()

    async def _have(self, files: Iterable[PackageFile]) -> None:
        for file in files:
            try:
                await self._fetch(file)
            except (CacheError, OSError) as error:
                LOG.warning("cannot be fetched ahead", source=file.url, why=str(error))
