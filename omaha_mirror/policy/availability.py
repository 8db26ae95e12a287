"""What the cache knows against releases that the catalog would offer: bytes that are wrong, or that nobody trusted signed."""

from __future__ import annotations

from dataclasses import replace

from omaha_mirror.cache import Cache
from omaha_mirror.catalog import PackageFile, Reason, Step
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.source import expected

Unavailable = tuple[Reason, str]
"""Why a package cannot be had: `UNTRUSTED` or `PAYLOAD_WRONG`, and the same for people."""


class Availability:
    """Asked before every offer; waits for nothing.

    Args:
        cache: of packages.
        offered: the releases that machines are offered.
    """

    def __init__(self, cache: Cache, offered: Offered) -> None:
        self._cache = cache
        self._offered = offered

    def about(self, file: PackageFile) -> Unavailable | None:
        """What is to be said against a package, if anything."""
        return self._about(expected(file).key)

    def _about(self, key: str) -> Unavailable | None:
        if (why := self._cache.refused(key)) is not None:
            return Reason.UNTRUSTED, why
        if (why := self._cache.cooldown(key)) is not None:
            return Reason.PAYLOAD_WRONG, why
        return None

    def step(self, step: Step) -> Step:
        """A step, of which a release counts as known only as far as its packages can be had."""
        known, release = step.known, step.known.release
        if release is None or not self._cache.suspects:
            return step
        if (doubt := self.about(release.payload)) is not None:
            reason, why = doubt
            return replace(step, known=replace(known, release=None, reason=reason, detail=why))
        lacking = {
            file.name: doubt[1]
            for file in release.files
            if file.name in known.looked_up and (doubt := self.about(file)) is not None
        }
        if not lacking:
            return step
        return replace(step, known=replace(known, lacking={**known.lacking, **lacking}))

    def packages(self) -> dict[Reason, dict[str, str]]:
        """The packages of offered releases that cannot be had, and why, by reason."""
        found: dict[Reason, dict[str, str]] = {}
        if not self._cache.suspects:
            return found
        for release in self._offered.releases():
            for name, key in self._offered.named(release):
                if (doubt := self._about(key)) is not None:
                    path = f"{release.board}/{release.version}/{name}"
                    found.setdefault(doubt[0], {})[path] = doubt[1]
        return found
