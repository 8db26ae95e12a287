"""What an operator asks for before machines do: what upstream offers, and having it here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing

from omaha_mirror.catalog import Catalog, LookupResult, Reason, Release
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule, track_upstream
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.packages.prefetch import FetchProgress, NothingToFetch, Prefetch, nothing_to_fetch

ANSWER = 20.0
"""Seconds that an operator waits for upstream to say where a track leads."""
LOOK_UP = 540.0
"""And for a release to be looked up: where no digest is told of it, that takes the whole download."""


class WarmUp:
    """Asks upstream, and has releases here.

    Args:
        catalog: of releases.
        prefetch: fetches.
        rule: gives the rule of a track.
        app_ids: the applications that are answered for.
        follows: whether there is an Omaha server to ask.
    """

    def __init__(
        self,
        catalog: Catalog,
        prefetch: Prefetch,
        rule: Callable[[str], Rule],
        app_ids: Collection[str],
        *,
        follows: bool,
    ) -> None:
        self._catalog = catalog
        self._prefetch = prefetch
        self._rule = rule
        self._app_ids = app_ids
        self._follows = follows

    def channels(self) -> list[ChannelStatus]:
        """What is known of each application, board and track that upstream was asked about."""
        return self._catalog.channels()

    async def sync(self, track: str | None = None) -> list[ChannelStatus]:
        """Ask upstream now, about one track or all that are known."""
        name = track if track is None else track_upstream(track, self._rule(track))
        return await self._catalog.sync(name)

    async def warm(self, target: str, board: str) -> AsyncGenerator[FetchProgress]:
        """Fetch a version, or what a track leads to now, and tell how far it is: for each application that has it.

        Raises:
            NotHere: before the first report; there is nothing to fetch.
        """
        releases, missing = [], []
        for app_id in self._app_ids:
            try:
                releases.append(await self._release(app_id, board, target))
            except NothingToFetch as error:
                missing.append(error)
        if not releases:
            raise missing[0]
        for release in releases:
            async with aclosing(self._prefetch.warm(release)) as steps:
                async for step in steps:
                    yield step

    async def _release(self, app_id: str, board: str, target: str) -> Release:
        rule = Pin(target) if _is_version(target) else self._rule(target)
        if isinstance(rule, Hold | Relay):
            mode = type(rule).__name__.lower()
            raise NothingToFetch(
                f"{target} is on {mode}: there is no release of its own; name a version"
            )
        if isinstance(rule, Follow):
            if not self._follows:
                raise NothingToFetch(
                    f"{target} leads nowhere, as upstream.omaha_url is null: name a version"
                )
            await self._catalog.follow(app_id, board, track_upstream(target, rule), ANSWER)
        steps = self._catalog.steps(app_id, board, target, rule)
        if not steps:
            nothing = self._catalog.nothing(app_id, board, track_upstream(target, rule))
            raise nothing_to_fetch(f"{target} for {board}", *nothing)
        version = _latest(rule, [step.version for step in steps])
        await self._catalog.look_up(app_id, board, version, rule, "", LOOK_UP)
        known = self._catalog.known(app_id, board, version) or LookupResult()
        if known.release is None:
            raise nothing_to_fetch(f"{version} for {board}", known.reason, known.detail)
        return known.release


def _latest(rule: Rule, versions: Sequence[str]) -> str:
    """The last version that the rule lets machines have. Raises NotHere."""
    if not isinstance(rule, Follow) or rule.max_version is None:
        return versions[-1]
    top = Version.parse(rule.max_version)
    allowed = [version for version in versions if Version.parse(version) <= top]
    if not allowed:
        raise nothing_to_fetch(versions[0], Reason.ABOVE_MAX, f"{versions[0]} > {top}")
    return allowed[-1]


def _is_version(text: str) -> bool:
    try:
        Version.parse(text)
    except BadVersion:
        return False
    return True
