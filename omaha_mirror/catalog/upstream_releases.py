"""Releases as upstream's Omaha told them: it alone names all packages of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from omaha_mirror.catalog.model import Release, began, extensions
from omaha_mirror.catalog.state import ReleaseKey, key_of

MAX_TOLD = 256
"""Those that no track leads to any more: a pin may name one."""


class UpstreamReleases:
    """By their version."""

    def __init__(self) -> None:
        self._releases: dict[ReleaseKey, Release] = {}
        self._extensions: dict[tuple[str, str], frozenset[str]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._releases

    def get(self, key: ReleaseKey) -> Release | None:
        """A release; None where upstream has not told of it."""
        return self._releases.get(key)

    def all(self) -> tuple[Release, ...]:
        """All of them."""
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
