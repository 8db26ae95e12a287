"""How the cache commands reach a cache: through the admin listener of the mirror that runs, else on disk.

What only looks at the cache of a stopped mirror changes no file there: it may be another user who looks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Protocol

from omaha_mirror.cache import Cache, DiskStore, Verifier
from omaha_mirror.cache.errors import InUse
from omaha_mirror.cache.lock import in_use
from omaha_mirror.cli.exits import Failure
from omaha_mirror.cli.running import Json, RunningMirror, reach
from omaha_mirror.config import Config
from omaha_mirror.offline import Offline
from omaha_mirror.state_file import Damaged


class CacheAccess(Protocol):
    """What can be done with a cache. All raise Failure."""

    async def contents(self) -> Json:
        """All of it."""

    def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        """Verify these blobs, or all; a verdict for each."""

    async def gc(self, *, dry_run: bool) -> Json:
        """Evict down to the bounds and sweep what is stale."""

    async def remove(self, key: str) -> Json:
        """Remove a blob; gives what went."""


@asynccontextmanager
async def open_cache(config: Config, *, only_look: bool) -> AsyncIterator[CacheAccess]:
    """The cache of a config.

    Args:
        config: where it is.
        only_look: nothing will be verified or removed.

    Raises:
        Failure: it cannot be worked on.
        OSError: the disk failed, or another process took the cache at the same moment.
    """
    directory = config.cache.directory
    if not DiskStore(directory).blobs.is_dir():
        raise Failure(f"there is no cache at {directory}")
    running = in_use(directory)
    if running is not None:
        async with reach(config, running) as mirror:
            yield _Running(mirror)
        return
    offline = Offline(config)
    try:
        async with offline.looking() if only_look else offline.cleaning():
            yield _Stopped(offline.cache, offline.verifier)
    except Damaged as error:
        raise Failure(
            f"{error}; so nobody knows what is offered: start the mirror, it mends that"
        ) from None


class _Stopped:
    """Works on the directory of a mirror that does not run."""

    def __init__(self, cache: Cache, verifier: Verifier) -> None:
        self._cache = cache
        self._verifier = verifier

    async def contents(self) -> Json:
        return asdict(await self._cache.contents())

    async def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        async with aclosing(self._verifier.verify_all(keys)) as verdicts:
            async for verdict in verdicts:
                yield asdict(verdict)

    async def gc(self, *, dry_run: bool) -> Json:
        return {"dry_run": dry_run, **asdict(await self._cache.gc(dry_run=dry_run))}

    async def remove(self, key: str) -> Json:
        try:
            removed = await self._cache.remove(key)
        except InUse as error:
            raise Failure(str(error)) from None
        if removed is None:
            raise Failure(f"{key} is gone already")
        return asdict(removed)


class _Running:
    """Asks the mirror that runs."""

    def __init__(self, mirror: RunningMirror) -> None:
        self._mirror = mirror

    async def contents(self) -> Json:
        return await self._mirror.ask("GET", "/api/v1/cache")

    def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        body = {} if keys is None else {"keys": list(keys)}
        return self._mirror.lines("/api/v1/cache/verify", body)

    async def gc(self, *, dry_run: bool) -> Json:
        return await self._mirror.ask("POST", "/api/v1/cache/gc", {"dry_run": dry_run})

    async def remove(self, key: str) -> Json:
        return await self._mirror.ask("DELETE", f"/api/v1/cache/{key}")
