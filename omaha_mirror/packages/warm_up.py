"""What an operator asks for before machines do: what upstream offers, and having it here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from omaha_mirror.catalog import Catalog, ChannelStatus, Pin, Release
from omaha_mirror.config.rules import track_upstream
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.packages.prefetch import FetchProgress, Prefetch
from omaha_mirror.policy.track_rules import TrackRules
from omaha_mirror.policy.tracks import NothingToFetch, Tracks

ANSWER = 20.0
"""Seconds that an operator waits for upstream to say where a track leads."""
LOOK_UP = 540.0
"""And for a release to be looked up: without a known digest that takes the whole download."""


class WarmUp:
    """Asks upstream, and has releases here.

    Args:
        catalog: of releases.
        tracks: say where they lead.
        rules: of the tracks.
        prefetch: fetches.
        app_ids: the applications that are answered for.
    """

    def __init__(
        self,
        catalog: Catalog,
        tracks: Tracks,
        rules: TrackRules,
        prefetch: Prefetch,
        app_ids: Collection[str],
    ) -> None:
        self._catalog = catalog
        self._tracks = tracks
        self._rules = rules
        self._prefetch = prefetch
        self._app_ids = app_ids

    async def channels(self) -> list[ChannelStatus]:
        """What is known of each application, board and track that upstream was asked about."""
        return await self._tracks.channels()

    async def sync(self, track: str | None = None) -> list[ChannelStatus]:
        """Ask upstream now, about one track or all that are known; gives what is known then of what was asked."""
        name = track if track is None else track_upstream(track, self._rules(track))
        await self._catalog.sync(name)
        return [channel for channel in await self.channels() if name in (None, channel.track)]

    async def warm(self, target: str, board: str) -> AsyncGenerator[FetchProgress]:
        """Fetch a version, or all that a track leads through, and tell how far it is: for each application that has it.

        What cannot be had of a track comes last.

        Raises:
            NothingToFetch: before the first report; there is nothing to fetch.
        """
        version = _is_version(target)
        rule = Pin(target, skip_floors=True) if version else self._rules(target)
        found: list[Release] = []
        absent: list[NothingToFetch] = []
        missing: list[NothingToFetch] = []
        for app_id in self._app_ids:
            try:
                path = await self._tracks.ask(app_id, board, target, rule, ANSWER)
            except NothingToFetch as error:
                absent.append(error)
                continue
            for step in path.steps:
                try:
                    found.append(
                        await self._tracks.release(app_id, board, step.version, rule, LOOK_UP)
                    )
                except NothingToFetch as error:
                    missing.append(error)
        if not found:
            raise (*missing, *absent)[0]
        for release in found:
            async with aclosing(self._prefetch.warm(release)) as steps:
                async for progress in steps:
                    yield progress
        # Not each application has each version; but all that a track leads through is needed.
        for why in missing if not version else ():
            yield FetchProgress(target, 0, 0, done=True, error=str(why))


def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except BadVersion:
        return False
    return True
