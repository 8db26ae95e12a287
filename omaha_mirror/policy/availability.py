"""Releases whose packages the cache refuses: their bytes are wrong, or their signature is not trusted."""

from __future__ import annotations

from dataclasses import replace

from omaha_mirror.cache import Cache
from omaha_mirror.catalog import PackageFile, Reason, Step
from omaha_mirror.packages.offered import Offered
from omaha_mirror.packages.source import expected

Unavailable = tuple[Reason, str]
"""Why a package is not available: `UNTRUSTED` or `PAYLOAD_WRONG`, and the same for people."""


class Availability:
    """Adds to steps what the cache knows of their packages. Never waits.

    Args:
        cache: of packages.
        offered: the releases that machines are offered.
    """

    def __init__(self, cache: Cache, offered: Offered) -> None:
        self._cache = cache
        self._offered = offered

    def about(self, file: PackageFile) -> Unavailable | None:
        """Why a package is not available; None if it is."""
        return self._about(expected(file).key)

    def _about(self, key: str) -> Unavailable | None:
        if (why := self._cache.refused(key)) is not None:
            return Reason.UNTRUSTED, why
        if (why := self._cache.cooldown(key)) is not None:
            return Reason.PAYLOAD_WRONG, why
        return None

    def step(self, step: Step) -> Step:
        """A step without a release whose payload is not available, and with its unavailable extra packages as lacking."""
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
        """The unavailable packages of offered releases, by reason and path, each with its cause."""
        found: dict[Reason, dict[str, str]] = {}
        if not self._cache.suspects:
            return found
        for release in self._offered.releases():
            for name, key in self._offered.named(release):
                if (doubt := self._about(key)) is not None:
                    path = f"{release.board}/{release.version}/{name}"
                    found.setdefault(doubt[0], {})[path] = doubt[1]
        return found
