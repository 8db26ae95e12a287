"""`/readyz` and `/metrics`: what monitoring asks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from omaha_mirror.health import Health
from omaha_mirror.metrics import CONTENT_TYPE, Metrics
from omaha_mirror.web.admin.answers import READ, Route, as_json


class HealthApi:
    """Tells how the mirror is."""

    def __init__(self, examine: Callable[[], Awaitable[Health]], metrics: Metrics) -> None:
        self._examine = examine
        self._metrics = metrics

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route(READ, re.compile(r"/readyz"), self._ready, open=True),
            Route(READ, re.compile(r"/metrics"), self._exposition),
        )

    async def _ready(self, _: web.BaseRequest) -> web.StreamResponse:
        """200 or 503, for load balancers and people; no machine asks here."""
        health = await self._examine()
        told = {
            "ready": health.ready,
            "state": health.state.value,
            "checks": [asdict(finding) for finding in health.findings],
        }
        return as_json(told, 200 if health.ready else 503)

    async def _exposition(self, _: web.BaseRequest) -> web.StreamResponse:
        await self._examine()
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})
