"""`/healthz`, `/readyz`, `/metrics`, `/api/v1/status` and `/api/v1/releases`: how the mirror is, and what it offers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from omaha_mirror import __version__
from omaha_mirror.catalog import PackageFile, Release
from omaha_mirror.fleet import FleetUnavailable
from omaha_mirror.observability.counters import CONTENT_TYPE, Counters
from omaha_mirror.observability.health import Finding, Health, State
from omaha_mirror.packages.source import expected
from omaha_mirror.service import Service
from omaha_mirror.web.admin.answers import READ, Route, as_json, as_long_json
from omaha_mirror.web.admin.page.status import DAY, SPANS, Saving, first_day, savings, verdict


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the mirror can serve, the worst state of its checks, and the checks."""

    ready: bool
    state: State
    checks: tuple[Finding, ...]


class HealthApi:
    """Answers health and metrics."""

    def __init__(self, examine: Callable[[], Awaitable[Health]], metrics: Counters) -> None:
        self._examine = examine
        self._metrics = metrics

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
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
        readiness = Readiness(health.ready, health.state, health.findings)
        return as_json(readiness, 200 if health.ready else 503)

    async def _exposition(self, _: web.BaseRequest) -> web.StreamResponse:
        """The metrics, as Prometheus reads them."""
        await self._examine()
        body = await self._metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


@dataclass(frozen=True, slots=True)
class Status:
    """How the mirror is.

    Attributes:
        state: the worst of the checks.
        ready: whether it can serve.
        verdict: the same as a sentence, and why; `more` is what else is not as it should be.
        started: when it was.
        served, fetched: bytes since then.
        fills: fills under way.
        machines: how many of those seen in the last day are in each state; null where that is not known.
        savings: of today, 7 and 30 days; null where they are not known.
        trouble: why they are not known.
    """

    version: str
    state: str
    ready: bool
    verdict: str
    reason: str
    more: tuple[str, ...]
    started: float
    served: int
    fetched: int
    fills: int
    machines: dict[str, int] | None
    savings: tuple[Saving, ...] | None
    trouble: str
    checks: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """A package of a release; digests in hex. `key` is its name in the cache, and `here` whether it is there."""

    name: str
    size: int
    sha256: str | None
    sha1: str | None
    url: str
    key: str
    here: bool


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """A release that machines are offered; its payload comes first."""

    id: str
    app_id: str
    board: str
    version: str
    learnt: float
    packages: tuple[PackageInfo, ...]


@dataclass(frozen=True, slots=True)
class Releases:
    """The releases that machines are offered now."""

    releases: tuple[ReleaseInfo, ...]


class OverviewApi:
    """Answers the status and the releases of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._started = self._service.clock.time()

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        return (
            Route(READ, re.compile(r"/api/v1/status"), self._status, gives=Status),
            Route(READ, re.compile(r"/api/v1/releases"), self._releases, gives=Releases),
        )

    async def _status(self, _: web.BaseRequest) -> web.StreamResponse:
        """How the mirror is, what it serves and what it saves."""
        health = await self._service.examine()
        reader, now = self._service.fleet_feed.reader, self._service.clock.time()
        states: dict[str, int] | None = None
        saved: tuple[Saving, ...] | None = None
        trouble = ""
        try:
            states = await reader.count_by("state", seen_since=now - DAY)
            since = first_day(max(SPANS), now)
            saved = savings(await reader.served(since), await reader.fetched(since), now)
        except FleetUnavailable as error:
            trouble = str(error)
        summary = verdict(health, states)
        status = Status(
            version=__version__,
            state=health.state.value,
            ready=health.ready,
            verdict=summary.line,
            reason=summary.reason,
            more=summary.more,
            started=self._started,
            served=self._service.observer.totals.served,
            fetched=self._service.observer.totals.fetched,
            fills=len(self._service.cache.fills()),
            machines=states,
            savings=saved,
            trouble=trouble,
            checks=health.findings,
        )
        return as_json(status)

    async def _releases(self, _: web.BaseRequest) -> web.StreamResponse:
        """The releases that machines are offered now, with their packages."""
        current = self._service.offered.releases()
        return await as_long_json(lambda: Releases(tuple(map(self._release, current))))

    def _release(self, release: Release) -> ReleaseInfo:
        return ReleaseInfo(
            id=release.id,
            app_id=release.app_id,
            board=release.board,
            version=release.version,
            learnt=release.learnt,
            packages=tuple(map(self._package, release.files)),
        )

    def _package(self, file: PackageFile) -> PackageInfo:
        key = expected(file).key
        return PackageInfo(
            name=file.name,
            size=file.size,
            sha256=file.sha256.hex if file.sha256 is not None else None,
            sha1=file.sha1.hex if file.sha1 is not None else None,
            url=file.url,
            key=key,
            here=self._service.cache.holds(key),
        )
