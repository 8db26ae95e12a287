"""The releases that can be had here, by the paths that machines were told.

A release stays servable for a week after its last use, whatever became of it upstream: a machine goes on with the
address it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from itertools import pairwise

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog.model import LookupResult, PackageFile, Release, began, extensions
from omaha_mirror.catalog.state import Kept, ReleaseKey, key_of

RETENTION = 7 * 24 * 3600.0
"""Seconds that a release stays servable after its last use."""
CHANGED_RECENTLY = 24 * 3600.0


class KnownReleases:
    """Releases by their id, with the time of their last use; `changed` is told of one that is used again after long."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._kept: dict[str, Kept] = {}

    def restore(self, kept: Iterable[Kept]) -> None:
        """Take up what was kept."""
        self._kept = {item.release.id: item for item in kept}

    def kept(self) -> list[Kept]:
        """All that is remembered."""
        return list(self._kept.values())

    def put(
        self,
        key: ReleaseKey,
        known: LookupResult,
        leading: Collection[ReleaseKey],
        *,
        imported: bool = False,
    ) -> list[ReleaseKey]:
        """Remember what is offered from now on of a version, and let go what was not used for long.

        Args:
            key: app, board and version.
            known: what is known of it now.
            leading: versions that are remembered even if no machine asks.
            imported: whether it comes from a bundle; it stays so.

        Returns:
            The versions of which nothing is offered any more.
        """
        now, oldest = self._clock.stamp(), self._clock.at_least() - RETENTION
        for item in self._kept.values():
            if item.key == key:
                item.current = False
        if (release := known.release) is not None:
            last_used = self._kept[release.id].last_used if release.id in self._kept else now
            answered = known.looked_up - known.lacking.keys()
            brought = imported or self.imported(release.id)
            self._kept[release.id] = Kept(release, last_used, answered, imported=brought)
        let_go = [
            item
            for item in self._kept.values()
            if item.last_used < oldest
            and not (item.current and (item.key == key or item.key in leading))
        ]
        for item in let_go:
            del self._kept[item.release.id]
        return [item.key for item in let_go if item.current]

    def use(self, release: Release) -> None:
        """Note that a release was used."""
        if (kept := self._kept.get(release.id)) is not None:
            before, kept.last_used = kept.last_used, self._clock.stamp()
            # `at_least` is never later than a stamp.
            if before < kept.last_used - RETENTION and before < self._clock.at_least() - RETENTION:
                self._changed()

    def imported(self, release_id: str) -> bool:
        """Whether a release came in a bundle."""
        kept = self._kept.get(release_id)
        return kept is not None and kept.imported

    def current(self, staying: Collection[ReleaseKey]) -> list[Release]:
        """The releases that machines are offered now: those used within `RETENTION`, and those of `staying`, used or not."""
        oldest = self._clock.at_least() - RETENTION
        return [
            item.release
            for item in self._kept.values()
            if item.current and (item.last_used >= oldest or item.key in staying)
        ]

    def current_until(self, staying: Collection[ReleaseKey]) -> float:
        """When the first of `current` drops out if it is not used, in seconds since the epoch."""
        oldest = self._clock.at_least() - RETENTION
        leaving = (
            item.last_used + RETENTION
            for item in self._kept.values()
            if item.current and item.last_used >= oldest and item.key not in staying
        )
        return min(leaving, default=math.inf)

    def package(self, release_id: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""
        kept = self._kept.get(release_id)
        if kept is None:
            return None
        self.use(kept.release)
        return kept.release.by_name.get(name)

    def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server: of the newest release that has it."""
        for release in self._releases(board, version):
            found = release.file(name)
            if found is not None:
                self.use(release)
                return found
        return None

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a release server's path got another digest within a day."""
        found = [(r, f) for r in self._releases(board, version) if (f := r.file(name)) is not None]
        return any(
            new.sha256 != old.sha256 and self._clock.age(release.learnt) < CHANGED_RECENTLY
            for (release, new), (_, old) in pairwise(found)
        )

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        for item in self._kept.values():
            item.last_used = min(item.last_used, now)
            item.release = began(item.release, now)

    def _releases(self, board: str, version: str) -> list[Release]:
        """Newest first."""
        found = [
            kept.release
            for kept in self._kept.values()
            if (kept.release.board, kept.release.version) == (board, version)
            and not kept.release.is_delta
        ]
        return sorted(found, key=lambda release: release.learnt, reverse=True)


MAX_TOLD = 256
"""Releases that upstream told of and no track leads to any more: a pin may name one."""


class UpstreamReleases:
    """The releases that upstream told of, by app, board and version.

    Attributes:
        get: gives a release; None where upstream has not told of it.
    """

    def __init__(self) -> None:
        self._releases: dict[ReleaseKey, Release] = {}
        self.get = self._releases.get
        self._extensions: dict[tuple[str, str], frozenset[str]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._releases

    def all(self) -> tuple[Release, ...]:
        """All releases."""
        return tuple(self._releases.values())

    def restore(self, releases: Iterable[Release]) -> None:
        """Take up what was told before a restart."""
        self._releases.update((key_of(release), release) for release in releases)

    def put(self, release: Release) -> bool:
        """Remember one; whether it is news."""
        key = key_of(release)
        if self._releases.get(key) == release:
            return False
        self._releases[key] = release
        self._extensions.clear()
        return True

    def thin_out(self, leading: Collection[ReleaseKey]) -> None:
        """Forget the oldest that no track leads to, where those are too many."""
        spare = sorted((r.learnt, key) for key, r in self._releases.items() if key not in leading)
        for _, key in spare[:-MAX_TOLD]:
            del self._releases[key]
            self._extensions.clear()

    def extensions(self, app_id: str, board: str) -> frozenset[str]:
        """The names of all system extensions that any of them has for an application and board."""
        if (found := self._extensions.get((app_id, board))) is None:
            found = extensions(self._releases.values(), app_id, board)
            self._extensions[app_id, board] = found
        return found

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        self._releases.update({key: began(r, now) for key, r in self._releases.items()})
