"""What the cache knows against releases that the catalog would offer: bytes that are wrong, or that nobody trusted signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from omaha_mirror.cache import Cache
from omaha_mirror.catalog import Catalog, PackageFile, Reason, Release, Step
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.packages.expected import Keys, Named, expected

Unavailable = tuple[Reason, str]
"""Why a package cannot be had: `UNTRUSTED` or `PAYLOAD_WRONG`, and the same for people."""


class Availability:
    """Asked before every offer; waits for nothing.

    Args:
        catalog: of releases.
        cache: of their packages.
    """

    def __init__(self, catalog: Catalog, cache: Cache) -> None:
        self._catalog = catalog
        self._cache = cache
        self._known = Keys()
        self._keys: Mapping[str, Named] = {}

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
        if release is None:
            return step
        if (doubt := self.about(release.payload)) is not None:
            reason, why = doubt
            return replace(step, known=replace(known, release=None, reason=reason, detail=why))
        lacking = {
            name: doubt[1]
            for name in known.looked_up
            if (file := release.file(name)) is not None and (doubt := self.about(file)) is not None
        }
        if not lacking:
            return step
        return replace(step, known=replace(known, lacking={**known.lacking, **lacking}))

    def channels(self) -> list[ChannelStatus]:
        """Where tracks lead, for operators."""
        return self.over(self._catalog.channels())

    def over(self, channels: Iterable[ChannelStatus]) -> list[ChannelStatus]:
        """The same channels, whose steps are not offered where their payload cannot be had."""
        doubted = {
            (release.app_id, release.board, release.version): doubt[0]
            for release in self._current()
            if not release.is_delta
            and (doubt := self._about(self._keys[release.id][0][1])) is not None
        }
        if not doubted:
            return list(channels)
        return [
            replace(
                channel,
                steps=tuple(
                    replace(
                        step,
                        state=doubted.get(
                            (channel.app_id, channel.board, step.version), step.state
                        ),
                    )
                    for step in channel.steps
                ),
            )
            for channel in channels
        ]

    def releases(self) -> list[Release]:
        """The releases whose payload can be had, of those that machines in general are offered."""
        current = [release for release in self._current() if not release.is_delta]
        return [r for r in current if self._about(self._keys[r.id][0][1]) is None]

    def packages(self) -> dict[Reason, dict[str, str]]:
        """The packages of offered releases that cannot be had, and why, by reason."""
        found: dict[Reason, dict[str, str]] = {}
        for release in self._current():
            for name, key in self._keys[release.id]:
                if (doubt := self._about(key)) is not None:
                    path = f"{release.board}/{release.version}/{name}"
                    found.setdefault(doubt[0], {})[path] = doubt[1]
        return found

    def _current(self) -> list[Release]:
        """The releases that machines are offered; `_keys` are those of their packages."""
        current = self._catalog.current()
        self._keys = self._known.of(current)
        return current
