"""The parts of the status page; each renews itself on open pages.

A part that cannot be shown now, because the database or the disk does not answer, leaves the others as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from omaha_mirror.aio.clock import Clock
from omaha_mirror.fleet import FleetUnavailable, MachineQuery
from omaha_mirror.fleet.listing import Trait
from omaha_mirror.service import Service
from omaha_mirror.web.admin.page import machines, status, svg, tracks_and_cache
from omaha_mirror.web.admin.page.rendering import Rendered, Shared
from omaha_mirror.web.admin.page.status import DAY, SPANS, first_day, savings
from omaha_mirror.web.admin.page.templates import render

PATIENCE = 6.0
"""Seconds that a part may take; the examination of the disks takes five at most."""
FRESH = 1.0
MACHINES = 10
ERRORS = 10

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page: its heading, and seconds between two looks at it."""

    name: str
    heading: str
    every: int


PARTS = (
    Part("verdict", "Verdict", 5),
    Part("savings", "Saved", 10),
    Part("fills", "Being fetched", 2),
    Part("tracks", "Tracks", 5),
    Part("cache", "Cache", 10),
    Part("fleet", "Fleet", 30),
    Part("machines", "Machines", 5),
    Part("errors", "Recent errors", 10),
)
"""In the order of the page."""


class Fragments:
    """Renders the parts, each once for all requests within a second."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = service.fleet_feed.reader
        self._counting = asyncio.Lock()
        self._counted: Mapping[Trait, Mapping[str, int]] = {}
        self._counted_until = float("-inf")
        gather: dict[str, Callable[[float], Awaitable[Values]]] = {
            "verdict": self._verdict,
            "savings": self._savings,
            "fills": self._fills,
            "tracks": self._tracks,
            "cache": self._cache,
            "fleet": self._fleet,
            "machines": self._machines,
            "errors": self._errors,
        }
        late = _unavailable(f"there was no answer within {PATIENCE:.0f} seconds")
        self._shared = {
            name: Shared(partial(_rendered, name, values, service.clock), FRESH, PATIENCE, late)
            for name, values in gather.items()
        }

    async def get(self, name: str) -> Rendered | None:
        """A part as it is now; None where there is no such part."""
        shared = self._shared.get(name)
        return await shared() if shared is not None else None

    def expire(self) -> None:
        """Render all parts anew at the next request: something was changed."""
        for shared in self._shared.values():
            shared.expire()

    async def _verdict(self, now: float) -> Values:
        health = await self._service.examine()
        try:
            states = await self._reader.count_by("state", seen_since=now - DAY)
        except FleetUnavailable:
            states = None
        return {"verdict": status.verdict(health, states)}

    async def _savings(self, now: float) -> Values:
        since = first_day(max(SPANS), now)
        served = await self._reader.served(since)
        fetched = await self._reader.fetched(since)
        return {"savings": list(map(status.saving, savings(served, fetched, now)))}

    async def _fills(self, now: float) -> Values:
        return {
            "fills": [status.fill(progress) for progress in self._service.cache.fills()],
            "ended": status.ended(self._service.observer.ended, now),
        }

    async def _tracks(self, now: float) -> Values:
        try:
            counted = (await self._counts(now))["track"]
        except FleetUnavailable:
            counted = None
        paths = await self._service.tracks.paths(counted or ())
        named = self._service.rules.named()
        tracks = {*named, *(path.status.track for path in paths)}
        overrides = self._service.overrides
        return {
            "tracks": tracks_and_cache.tracks(
                paths,
                named,
                counted,
                self._service.rules,
                {track: found.since for track in tracks if (found := overrides.get(track))},
                now,
            )
        }

    async def _counts(self, now: float) -> Mapping[Trait, Mapping[str, int]]:
        """Machines seen within the time of the charts, counted once for the parts that show them together."""
        async with self._counting:
            if self._service.clock.boottime() >= self._counted_until:
                traits: tuple[Trait, ...] = ("state", "version", "track")
                since = now - svg.SPAN
                self._counted = await self._reader.counts(*traits, seen_since=since)
                self._counted_until = self._service.clock.boottime() + FRESH
            return self._counted

    async def _cache(self, now: float) -> Values:
        contents = await self._service.cache.contents(tracks_and_cache.MAX_BLOBS)
        return {"cache": tracks_and_cache.cache(contents, now), "width": svg.WIDTH}

    async def _fleet(self, now: float) -> Values:
        reader, since = self._reader, now - svg.SPAN
        counted = await self._counts(now)
        state_history = await reader.census("state", since, svg.STEP)
        version_history = await reader.census("version", since, svg.STEP)
        return {
            "charts": (
                ("States", svg.state_chart(state_history, counted["state"], now)),
                ("Versions", svg.version_chart(version_history, counted["version"], now)),
            ),
            "width": svg.WIDTH,
            "height": svg.HEIGHT,
        }

    async def _machines(self, now: float) -> Values:
        page = await self._reader.machines(MachineQuery(per_page=MACHINES))
        rows = [machines.row(machine, now) for machine in page.machines]
        return {"rows": rows, "total": page.total}

    async def _errors(self, now: float) -> Values:
        reported = await self._reader.recent_errors(ERRORS)
        return {"troubles": machines.troubles(reported, self._service.observer.ended, now, ERRORS)}


async def _rendered(name: str, gather: Callable[[float], Awaitable[Values]], clock: Clock) -> str:
    try:
        values = await gather(clock.time())
    except (FleetUnavailable, OSError) as error:
        return _unavailable(str(error))
    return render(f"parts/{name}.html", **values)


def _unavailable(why: str) -> str:
    return render("parts/unavailable.html", why=why)
