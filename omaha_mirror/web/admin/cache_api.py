"""`/api/v1/cache` and `/api/v1/fills`: what is in the cache, and its upkeep."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from aiohttp import web

from omaha_mirror.cache import Cache, Upkeep
from omaha_mirror.cache.errors import InUse
from omaha_mirror.telemetry import printable
from omaha_mirror.web.admin.answers import (
    CHANGE,
    READ,
    Route,
    as_json,
    as_lines,
    flag,
    read_object,
    refuse,
)
from omaha_mirror.web.errors import BadRequest

KEY = r"[0-9a-z][0-9a-z-]{5,99}"


class CacheApi:
    """Looks at a cache and tidies it."""

    def __init__(self, cache: Cache, upkeep: Upkeep) -> None:
        self._cache = cache
        self._upkeep = upkeep

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route(READ, re.compile(r"/api/v1/cache"), self._contents),
            Route(READ, re.compile(r"/api/v1/fills"), self._fills),
            Route(CHANGE, re.compile(r"/api/v1/cache/verify"), self._verify),
            Route(CHANGE, re.compile(r"/api/v1/cache/gc"), self._gc),
            Route(("DELETE",), re.compile(rf"/api/v1/cache/(?P<key>{KEY})"), self._remove),
        )

    async def _contents(self, _: web.BaseRequest) -> web.StreamResponse:
        return as_json(asdict(await self._cache.contents()))

    async def _fills(self, _: web.BaseRequest) -> web.StreamResponse:
        return as_json({"fills": [asdict(progress) for progress in self._cache.fills()]})

    async def _verify(self, request: web.BaseRequest) -> web.StreamResponse:
        """Verify some blobs (`{"keys": [...]}`) or all; a line of JSON for each as it is done."""
        keys = (await read_object(request)).get("keys")
        if keys is not None:
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise BadRequest("keys must be a list of keys")
            if missing := [key for key in keys if not self._cache.holds(key)]:
                raise BadRequest(f"not in the cache: {printable(', '.join(missing))}", 404)
        return await as_lines(request, self._verdicts(keys))

    async def _verdicts(self, keys: list[str] | None) -> AsyncGenerator[dict[str, Any]]:
        async with aclosing(self._upkeep.verify_all(keys)) as verdicts:
            async for verdict in verdicts:
                yield asdict(verdict)

    async def _gc(self, request: web.BaseRequest) -> web.StreamResponse:
        dry_run = flag(await read_object(request), "dry_run")
        return as_json({"dry_run": dry_run, **asdict(await self._cache.gc(dry_run=dry_run))})

    async def _remove(self, _: web.BaseRequest, key: str) -> web.StreamResponse:
        try:
            removed = await self._cache.remove(key)
        except InUse as error:
            return refuse(409, str(error))
        return as_json(asdict(removed)) if removed else refuse(404, f"{key} is not in the cache")
