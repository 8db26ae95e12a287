"""`/api/v1/cache` and `/api/v1/fills`: what is in the cache, and its maintenance."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web
from pydantic import StrictBool

from omaha_mirror.cache import Cache, Progress, Verifier, VerifyResult
from omaha_mirror.cache.errors import InUse
from omaha_mirror.cache.inventory import Contents
from omaha_mirror.cache.store import Removed
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import (
    CHANGE,
    LINES,
    READ,
    Question,
    Route,
    as_json,
    as_lines,
    as_long_json,
    read_model,
    refuse,
)
from omaha_mirror.web.errors import BadRequest

KEY = r"[0-9a-z][0-9a-z-]{5,99}"


@dataclass(frozen=True, slots=True)
class Fills:
    """The fills under way."""

    fills: tuple[Progress, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed, or would remove, and why that is not enough room."""

    dry_run: bool
    removed: tuple[Removed, ...]
    short: str


class Verify(Question):
    """Which packages are verified; all, if none is named."""

    keys: tuple[str, ...] | None = None


class Collect(Question):
    """Whether to list only what would be removed."""

    dry_run: StrictBool = False


class CacheApi:
    """Lists, verifies, evicts and removes packages."""

    def __init__(self, cache: Cache, verifier: Verifier) -> None:
        self._cache = cache
        self._verifier = verifier

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        return (
            Route(READ, re.compile(r"/api/v1/cache"), self._contents, gives=Contents),
            Route(READ, re.compile(r"/api/v1/fills"), self._fills, gives=Fills),
            Route(
                CHANGE,
                re.compile(r"/api/v1/cache/verify"),
                self._verify,
                gives=VerifyResult,
                takes=Verify,
                media=LINES,
            ),
            Route(
                CHANGE, re.compile(r"/api/v1/cache/gc"), self._gc, gives=Collected, takes=Collect
            ),
            Route(
                ("DELETE",),
                re.compile(rf"/api/v1/cache/(?P<key>{KEY})"),
                self._remove,
                gives=Removed,
            ),
        )

    async def _contents(self, _: web.BaseRequest) -> web.StreamResponse:
        """What is in the cache."""
        contents = await self._cache.contents()
        return await as_long_json(lambda: contents)

    async def _fills(self, _: web.BaseRequest) -> web.StreamResponse:
        """The fills under way and in the queue."""
        return as_json(Fills(tuple(self._cache.fills())))

    async def _verify(self, request: web.BaseRequest) -> web.StreamResponse:
        """Verify packages by their digests; a line for each as it is done."""
        keys = (await read_model(request, Verify)).keys
        if missing := [key for key in keys or () if not self._cache.holds(key)]:
            raise BadRequest(f"not in the cache: {printable(', '.join(missing))}", 404)
        return await as_lines(request, self._verifier.verify_all(keys))

    async def _gc(self, request: web.BaseRequest) -> web.StreamResponse:
        """Evict down to the cache's bounds, and sweep what is stale."""
        dry_run = (await read_model(request, Collect)).dry_run
        swept = await self._cache.gc(dry_run=dry_run)
        return await as_long_json(lambda: Collected(dry_run, swept.removed, swept.short))

    async def _remove(self, _: web.BaseRequest, key: str) -> web.StreamResponse:
        """Remove a package; what is in use is refused (409)."""
        try:
            removed = await self._cache.remove(key)
        except InUse as error:
            return refuse(409, str(error))
        return as_json(removed) if removed else refuse(404, f"{key} is not in the cache")
