"""What machines are offered now: which releases, and by that which blobs must stay. The one answer to it.

A release is offered while a track leads through it, by the rules in force or as a bundle says, and for a week after its
last use: a machine goes on with the address it was given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog import BOARDS, Catalog, Release
from omaha_mirror.catalog.catalog_file import ReleaseKey
from omaha_mirror.config.rules import depends_on_track
from omaha_mirror.packages.source import Named, named
from omaha_mirror.policy.decide import leads_to
from omaha_mirror.policy.track_rules import TrackRules


def led_to(catalog: Catalog, rules: TrackRules, app_ids: Iterable[str]) -> frozenset[ReleaseKey]:
    """The versions that tracks lead through by the rules in force."""
    tracks = [(track, rules(track)) for track in {"", *rules.named(), *catalog.tracks()}]
    ways = {(track if depends_on_track(rule) else "", rule) for track, rule in tracks}
    return frozenset(
        ReleaseKey(app_id, board, step.version)
        for track, rule in ways
        for app_id in app_ids
        for board in BOARDS
        for step in leads_to(rule, catalog.steps(app_id, board, track, rule))
    )


@dataclass(frozen=True, slots=True)
class _Now:
    """What is offered, and until when that holds if nothing changes, in seconds since the epoch."""

    changes: tuple[int, int]
    until: float
    releases: tuple[Release, ...]
    named: Mapping[str, Named]
    keys: frozenset[str]
    payloads: Mapping[str, tuple[Release, ...]]


class Offered:
    """Computed when something changed, not for each question. For the event loop alone.

    Args:
        catalog: of releases.
        rules: of the tracks.
        app_ids: the applications that are answered for.
        clock: tells the time.
    """

    def __init__(
        self, catalog: Catalog, rules: TrackRules, app_ids: Collection[str], clock: Clock
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._app_ids = app_ids
        self._clock = clock
        self._led: tuple[tuple[int, int], frozenset[ReleaseKey]] | None = None
        self._now: _Now | None = None

    def __call__(self, key: str) -> bool:
        """Whether a blob is a package of one of the releases."""
        return key in self.current().keys

    def is_delta(self, key: str) -> bool:
        """Whether a blob is the payload of a delta that upstream gave to a machine."""
        return any(release.is_delta for release in self.with_payload(key))

    def with_payload(self, key: str) -> tuple[Release, ...]:
        """The releases that have a blob as their payload."""
        return self.current().payloads.get(key, ())

    def releases(self) -> tuple[Release, ...]:
        """All of them."""
        return self.current().releases

    def named(self, release: Release) -> Named:
        """The packages of one of them."""
        return self.current().named[release.id]

    def led(self) -> frozenset[ReleaseKey]:
        """The versions that tracks lead through; see `led_to`."""
        changes = self._changes
        if self._led is None or self._led[0] != changes:
            self._led = changes, led_to(self._catalog, self._rules, self._app_ids)
        return self._led[1]

    @property
    def _changes(self) -> tuple[int, int]:
        return self._catalog.changes, self._rules.changes

    def current(self) -> _Now:
        """The same object while nothing has changed."""
        now, changes = self._now, self._changes
        if now is None or now.changes != changes or self._has_ended(now):
            now = self._now = self._work_out(changes, now.named if now is not None else {})
        return now

    def _has_ended(self, now: _Now) -> bool:
        return now.until < math.inf and self._clock.at_least() > now.until

    def _work_out(self, changes: tuple[int, int], before: Mapping[str, Named]) -> _Now:
        releases = tuple(self._catalog.current())
        packages = {r.id: before.get(r.id) or named(r) for r in releases}
        payloads: dict[str, tuple[Release, ...]] = {}
        for release in releases:
            _, key = packages[release.id][0]
            payloads[key] = (*payloads.get(key, ()), release)
        return _Now(
            changes,
            self._catalog.current_until(),
            releases,
            packages,
            frozenset(key for files in packages.values() for _, key in files),
            payloads,
        )
