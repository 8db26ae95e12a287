"""What an operator asks for before machines do: what upstream offers, and having it here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

from omaha_mirror.ahead import Ahead, NotHere, Warmth
from omaha_mirror.catalog import WORDS, Catalog, Known, Reason, Release
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.catalog.rules import Follow, Hold, Pin, Relay, Rule
from omaha_mirror.omaha import BadVersion, Version

PATIENCE = 20.0
"""Seconds that an operator waits for a release to be looked up."""
UNREACHED = {Reason.UNREACHABLE, Reason.WARMING, Reason.REFUSED}


class Steward:
    """Asks upstream, and has releases here.

    Args:
        catalog: of releases.
        ahead: fetches.
        rule: gives the rule of a track.
        app_ids: the applications that are answered for.
    """

    def __init__(
        self,
        catalog: Catalog,
        ahead: Ahead,
        rule: Callable[[str], Rule],
        app_ids: Collection[str],
    ) -> None:
        self._catalog = catalog
        self._ahead = ahead
        self._rule = rule
        self._app_ids = app_ids

    def channels(self) -> list[ChannelStatus]:
        """What is known of each application, board and track that upstream was asked about."""
        return self._catalog.channels()

    async def sync(self, track: str | None = None) -> list[ChannelStatus]:
        """Ask upstream now, about one track or all that are known."""
        return await self._catalog.sync(track)

    async def warm(self, target: str, board: str) -> AsyncGenerator[Warmth]:
        """Fetch a version, or what a track leads to now, and tell how far it is.

        Raises:
            NotHere: before the first report; there is nothing to fetch.
        """
        for app_id in self._app_ids:
            release = await self._release(app_id, board, target)
            async with aclosing(self._ahead.warm(release)) as steps:
                async for step in steps:
                    yield step

    async def _release(self, app_id: str, board: str, target: str) -> Release:
        rule = Pin(target) if _is_version(target) else self._rule(target)
        if isinstance(rule, Hold | Relay):
            mode = type(rule).__name__.lower()
            raise NotHere(f"{target} is on {mode}: there is no release of its own; name a version")
        if isinstance(rule, Follow):
            await self._catalog.follow(app_id, board, target, PATIENCE)
        steps = self._catalog.steps(app_id, board, target, rule)
        if not steps:
            raise _not_here(f"{target} for {board}", *self._catalog.nothing(app_id, board, target))
        version = steps[-1].version
        await self._catalog.look_up(app_id, board, version, rule, "", PATIENCE)
        known = self._catalog.known(app_id, board, version) or Known()
        if known.release is None:
            raise _not_here(f"{version} for {board}", known.reason, known.detail)
        return known.release


def _not_here(what: str, reason: Reason, detail: str) -> NotHere:
    words = f"{WORDS[reason]}: {detail}" if detail else WORDS[reason]
    return NotHere(f"{what}: {words}", unreachable=reason in UNREACHED)


def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except BadVersion:
        return False
    return True
