"""Where catalog, cache and upstream meet: a package that is named becomes bytes."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache import Cache, Expected, Reader
from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.fetch_scheduler import Priority
from omaha_mirror.catalog import (
    CannotProve,
    Catalog,
    LookupRequest,
    LookupResult,
    PackageFile,
    at_hand,
    learn,
)
from omaha_mirror.catalog.upstream_answer import MAX_SIZE
from omaha_mirror.config.rules import Pin
from omaha_mirror.omaha import Digest
from omaha_mirror.packages.prefetch import Prefetch
from omaha_mirror.packages.source import UpstreamSource, expected
from omaha_mirror.upstream.fetcher import Fetcher
from omaha_mirror.upstream.release_server import ReleaseServer, RemotePackage

STEP = 1024 * 1024
MANY = 4096
"""Packages whose expected digests are remembered."""


class PackageLibrary:
    """Reads and fetches packages through the cache.

    Args:
        cache: that they are kept in.
        fetcher: that brings them from upstream.
        rng: for jitter.
        clock: tells when a release was learnt.
    """

    def __init__(self, cache: Cache, fetcher: Fetcher, rng: random.Random, clock: Clock) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._rng = rng
        self._clock = clock
        self._blob_of = lru_cache(MANY)(self._blob)

    def read(
        self, file: PackageFile, start: int, stop: int, client: str = ""
    ) -> AbstractContextManager[Reader]:
        """Read [start, stop) of a package; see `Cache.read`."""
        return self._cache.read(*self._blob_of(file), start, stop, client)

    async def fetch(self, file: PackageFile) -> Proof | None:
        """Fetch and prove a package, unless it is here. Raises CacheError, OSError."""
        return await self._cache.fetch(*self._blob_of(file))

    def holds(self, file: PackageFile) -> bool:
        """Whether a package is here, proven."""
        return self._cache.holds(expected(file).key)

    async def chunks(self, file: PackageFile, start: int) -> AsyncGenerator[bytes]:
        """The bytes of a package from an offset on, in pieces of at most 1 MiB. Raises CacheError, OSError."""
        with self.read(file, start, file.size) as reader:
            while (window := await reader.window()) is not None:
                count, fd = min(window.count, STEP), window.file.fileno()
                data = await in_worker(os.pread, fd, count, window.offset)
                if not data:
                    reader.unreadable(f"{file.name} is shorter on disk than it was proven to be")
                reader.advance(len(data))
                yield data

    async def prove(self, package: RemotePackage) -> Digest:
        """Fetch a package without a known digest: what arrives whole under one validator counts.

        Raises:
            CannotProve: with words.
        """
        if package.size is None:
            raise CannotProve(f"{package.url}: the server gives neither a digest nor a size")
        unnamed = Expected(package.size, source=package.url)
        source = UpstreamSource(self._fetcher, package.url, package.size, self._rng, known=False)
        try:
            proof = await self._cache.fetch(unnamed, source)
        except (CacheError, OSError) as error:
            raise CannotProve(f"{package.url}: {error}") from error
        if proof is None:
            raise CannotProve(f"{package.url} was there without being proven")
        return Digest("sha256", proof.sha256)

    async def measure(self, package: RemotePackage) -> int:
        """The size of a package where no server gives it: its bytes are counted, and their digest must be right.

        Raises:
            CannotProve: with words.
            UpstreamError: it could not be fetched.
        """
        if package.sha256 is None:
            raise CannotProve(f"{package.url}: the server gives neither a digest nor a size")
        digest, size = sha256(), 0
        async with aclosing(self._fetcher.unsized(package.url)) as chunks:
            async for chunk in chunks:
                await self._cache.scheduler.take(len(chunk), Priority.PREFETCH)
                size += len(chunk)
                if size > MAX_SIZE:
                    raise CannotProve(f"{package.url} is larger than {MAX_SIZE} bytes")
                digest.update(chunk)
        if digest.digest() != package.sha256.raw:
            raise CannotProve(
                f"{package.url}: {size} bytes came, and their digest is not the sidecar's"
            )
        return size

    async def learn(self, wanted: LookupRequest, releases: ReleaseServer) -> LookupResult:
        """Look a version up: one that was imported and is here needs no question; about any other, upstream is asked."""
        brought = None
        if wanted.imported and wanted.upstream is not None:
            brought = at_hand(wanted, wanted.upstream, self.holds)
            if brought.release is not None and not brought.lacking:
                return brought
        found = await learn(
            wanted, releases, self.prove, self._clock.stamp(), self.measure, self.holds
        )
        if brought is None:
            return found
        if found.release is None:
            return brought
        lacking = {name: brought.lacking.get(name, why) for name, why in found.lacking.items()}
        return replace(found, lacking=lacking, doubt="")

    def _blob(self, file: PackageFile) -> tuple[Expected, UpstreamSource]:
        """The expected digests of a package, and where its bytes come from."""
        known = (file.sha256 or file.sha1) is not None
        source = UpstreamSource(self._fetcher, file.url, file.size, self._rng, known=known)
        return expected(file), source


class PublicPackages:
    """The packages that machines ask for by path.

    Args:
        catalog: of releases.
        library: has their bytes.
        prefetch: learns what machines ask for.
        app_ids: the applications that are answered for.
        pins: the pins of tracks to a version.
        layout: whether paths of the release server are answered.
    """

    def __init__(
        self,
        catalog: Catalog,
        library: PackageLibrary,
        prefetch: Prefetch,
        app_ids: Collection[str],
        pins: Callable[[str], Sequence[Pin]],
        layout: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._prefetch = prefetch
        self._app_ids = app_ids
        self._pins = pins
        self._layout = layout
        self.package = catalog.package
        self.changed_recently = catalog.changed_recently

    async def layout_file(
        self, board: str, version: str, name: str, client: str = ""
    ) -> PackageFile | None:
        """A package by its path on the release server; learns a pinned release on the first demand."""
        if not self._layout():
            return None
        pins = self._pins(version)
        return await self._catalog.demanded(board, version, name, pins, self._app_ids, client)

    def read(
        self, file: PackageFile, start: int, stop: int, client: str = ""
    ) -> AbstractContextManager[Reader]:
        """Read [start, stop) of a package, and begin to fetch what machines ask for after it."""
        self._prefetch.on_request(file)
        return self._library.read(file, start, stop, client)
