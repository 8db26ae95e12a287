"""The releases that this mirror serves, by the paths in its offers.

A release stays servable for a week after its last use, also when upstream has withdrawn it: a machine retries with the
URL of its offer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from itertools import pairwise

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog.catalog_file import ReleaseKey, StoredRelease, key_of
from omaha_mirror.catalog.model import LookupResult, PackageFile, Release, extensions, not_later

RETENTION = 7 * 24 * 3600.0
"""Seconds that a release stays servable after its last use."""
CHANGED_RECENTLY = 24 * 3600.0


class KnownReleases:
    """Releases by id, with the time of last use; `changed` is called when an expired one is used again."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._kept: dict[str, StoredRelease] = {}

    def restore(self, kept: Iterable[StoredRelease]) -> None:
        """Use the releases of an earlier process."""
        self._kept = {item.release.id: item for item in kept}

    def kept(self) -> list[StoredRelease]:
        """All stored releases."""
        return list(self._kept.values())

    def put(
        self,
        key: ReleaseKey,
        known: LookupResult,
        leading: Collection[ReleaseKey],
        *,
        imported: bool = False,
    ) -> list[ReleaseKey]:
        """Store the result of a look-up as the current release of its version, and remove expired releases.

        Args:
            key: app, board and version.
            known: the result.
            leading: versions that tracks lead to: their releases do not expire.
            imported: whether it comes from a bundle; a later look-up does not change that.

        Returns:
            The versions whose current release was removed.
        """
        now, oldest = self._clock.stamp(), self._clock.at_least() - RETENTION
        for item in self._kept.values():
            if item.key == key:
                item.current = False
        if (release := known.release) is not None:
            last_used = self._kept[release.id].last_used if release.id in self._kept else now
            answered = known.looked_up - known.lacking.keys()
            brought = imported or self.imported(release.id)
            self._kept[release.id] = StoredRelease(release, last_used, answered, imported=brought)
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
        """Record a use of a release."""
        if (kept := self._kept.get(release.id)) is not None:
            before, kept.last_used = kept.last_used, self._clock.stamp()
            # `at_least` is never later than a stamp.
            if before < kept.last_used - RETENTION and before < self._clock.at_least() - RETENTION:
                self._changed()

    def imported(self, release_id: str) -> bool:
        """Whether a release was imported from a bundle."""
        kept = self._kept.get(release_id)
        return kept is not None and kept.imported

    def current(self, staying: Collection[ReleaseKey]) -> list[Release]:
        """The current releases that were used within `RETENTION`, and those of the versions `staying`, used or not."""
        oldest = self._clock.at_least() - RETENTION
        return [
            item.release
            for item in self._kept.values()
            if item.current and (item.last_used >= oldest or item.key in staying)
        ]

    def current_until(self, staying: Collection[ReleaseKey]) -> float:
        """When the first of `current` would expire, in seconds since the epoch."""
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
        """A package by its path on the release server, from the newest release that has it."""
        for release in self._releases(board, version):
            found = release.file(name)
            if found is not None:
                self.use(release)
                return found
        return None

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a path of the release server got another digest within the last day."""
        found = [(r, f) for r in self._releases(board, version) if (f := r.file(name)) is not None]
        return any(
            new.sha256 != old.sha256 and self._clock.age(release.learnt) < CHANGED_RECENTLY
            for (release, new), (_, old) in pairwise(found)
        )

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        for item in self._kept.values():
            item.last_used = min(item.last_used, now)
            item.release = not_later(item.release, now)

    def _releases(self, board: str, version: str) -> list[Release]:
        """Newest first."""
        found = [
            kept.release
            for kept in self._kept.values()
            if (kept.release.board, kept.release.version) == (board, version)
            and not kept.release.is_delta
        ]
        return sorted(found, key=lambda release: release.learnt, reverse=True)


MAX_UNUSED = 256
"""Stored releases that no track leads to any more: a pin may name one."""


class UpstreamReleases:
    """The releases whose manifest upstream's Omaha server sent, by app, board and version.

    Attributes:
        get: gives a release; None if upstream sent no manifest of it.
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
        """Use the releases of an earlier process."""
        self._releases.update((key_of(release), release) for release in releases)

    def put(self, release: Release) -> bool:
        """Store a release; whether it is new, or differs from the stored one."""
        key = key_of(release)
        if self._releases.get(key) == release:
            return False
        self._releases[key] = release
        self._extensions.clear()
        return True

    def thin_out(self, leading: Collection[ReleaseKey]) -> None:
        """Remove the oldest of those that no track leads to, beyond `MAX_UNUSED`."""
        spare = sorted((r.learnt, key) for key, r in self._releases.items() if key not in leading)
        for _, key in spare[:-MAX_UNUSED]:
            del self._releases[key]
            self._extensions.clear()

    def extensions(self, app_id: str, board: str) -> frozenset[str]:
        """The names of the system extensions of all releases for an application and board."""
        if (found := self._extensions.get((app_id, board))) is None:
            found = extensions(self._releases.values(), app_id, board)
            self._extensions[app_id, board] = found
        return found

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        self._releases.update({key: not_later(r, now) for key, r in self._releases.items()})
