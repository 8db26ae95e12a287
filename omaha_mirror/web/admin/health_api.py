"""`/readyz` and `/metrics`: what monitoring asks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from aiohttp import web

from omaha_mirror.observability.counters import CONTENT_TYPE, Metrics
from omaha_mirror.observability.health import Finding, Health, State
from omaha_mirror.web.admin.answers import READ, Route, as_json


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the mirror can serve, the worst state of its checks, and the checks."""

    ready: bool
    state: State
    checks: tuple[Finding, ...]


class HealthApi:
    """Tells how the mirror is."""

    def __init__(self, examine: Callable[[], Awaitable[Health]], metrics: Metrics) -> None:
        self._examine = examine
        self._metrics = metrics

    def routes(self) -> tuple[Route, ...]:
        """What it answers."""
        return (
            Route(
                READ,
                re.compile(r"/readyz"),
                self._ready,
                open=True,
                gives=Readiness,
                statuses=(200, 503),
            ),
            Route(READ, re.compile(r"/metrics"), self._exposition, gives=str, media="text/plain"),
        )

    async def _ready(self, _: web.BaseRequest) -> web.StreamResponse:
        """Whether it can serve, by status 200 or 503: for load balancers and people; no machine asks here."""
        health = await self._examine()
        told = Readiness(health.ready, health.state, health.findings)
        return as_json(asdict(told), 200 if health.ready else 503)

    async def _exposition(self, _: web.BaseRequest) -> web.StreamResponse:
        """The metrics, as Prometheus reads them."""
        await self._examine()
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})
