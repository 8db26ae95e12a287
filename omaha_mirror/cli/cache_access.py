"""How the cache commands reach a cache: through the admin listener of the mirror that runs, else on disk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Protocol

from omaha_mirror.cache.errors import InUse
from omaha_mirror.cache.lock import DirectoryInUse
from omaha_mirror.cli.running import Json, Refused, RunningMirror, reach
from omaha_mirror.config import Config
from omaha_mirror.service import Service


class CacheAccess(Protocol):
    """What can be done with a cache. All raise Refused."""

    async def contents(self) -> Json:
        """All of it."""

    def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        """Verify these blobs, or all; a verdict for each."""

    async def gc(self, *, dry_run: bool) -> Json:
        """Evict down to the bounds and sweep what is stale."""

    async def remove(self, key: str) -> Json:
        """Remove a blob; gives what went."""


@asynccontextmanager
async def open_cache(config: Config) -> AsyncIterator[CacheAccess]:
    """The cache of a config. Raises Refused."""
    if not config.cache.directory.is_dir():
        raise Refused(f"there is no cache at {config.cache.directory}")
    service = Service(config)
    try:
        await service.open()
    except DirectoryInUse as error:
        async with reach(config, error) as mirror:
            yield _Running(mirror)
    except OSError as error:
        raise Refused(str(error)) from None
    else:
        yield _Stopped(service)
    finally:
        await service.close()


class _Stopped:
    """Works on the directory of a mirror that does not run."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def contents(self) -> Json:
        return asdict(await self._service.cache.contents())

    async def verify(self, keys: Sequence[str] | None) -> AsyncGenerator[Json]:
        async with aclosing(self._service.upkeep.verify_all(keys)) as verdicts:
            async for verdict in verdicts:
                yield asdict(verdict)

    async def gc(self, *, dry_run: bool) -> Json:
        return {"dry_run": dry_run, **asdict(await self._service.cache.gc(dry_run=dry_run))}

    async def remove(self, key: str) -> Json:
        try:
            removed = await self._service.cache.remove(key)
        except InUse as error:
            raise Refused(str(error)) from None
        if removed is None:
            raise Refused(f"{key} is gone already")
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
