"""The state of the catalog's parts as one: restored together, stored together, corrected together with the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog.catalog_file import State, StateWriter, latest
from omaha_mirror.catalog.channels import Imports
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.known_releases import KnownReleases, UpstreamReleases
from omaha_mirror.catalog.lookup import Lookups
from omaha_mirror.catalog.model import LookupResult


class Storage:
    """What `catalog.json` holds.

    Args:
        path: of the file.
        clock: tells the time.
        changed: called when stored times may have changed.
        releases: the known releases.
        upstream: the releases as upstream sent them.
        follower: has the followed channels.
        imports: has the imported ones.
        lookups: of the releases' versions.

    Attributes:
        writer: writes the file.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        changed: Callable[[], None],
        releases: KnownReleases,
        upstream: UpstreamReleases,
        follower: Follower,
        imports: Imports,
        lookups: Lookups,
    ) -> None:
        self.writer = StateWriter(path, self._state)
        self._clock = clock
        self._changed = changed
        self._releases = releases
        self._upstream = upstream
        self._follower = follower
        self._imports = imports
        self._lookups = lookups
        self._corrections = 0

    def restore(self, state: State) -> None:
        """Use the releases, channels and look-ups of an earlier process."""
        self._releases.restore(state.releases)
        self._upstream.restore(state.upstream)
        for item in state.releases:
            if item.current:
                complete = item.key in self._upstream
                known = LookupResult(item.release, looked_up=item.looked_up, complete=complete)
                # No server confirms an imported package, which may be gone: the first look-up must end before an offer.
                known_now = None if item.imported else known
                self._lookups.restore(item.key, known_now, item.looked_up)
        self._imports.restore(state.imported)
        self._follower.restore(state.channels)
        self._changed()

    def rebase(self) -> None:
        """After a correction of the clock, replace stored times in the future by now."""
        if self._clock.corrections == self._corrections:
            return
        self._corrections, now = self._clock.corrections, self._clock.time()
        self._changed()
        if latest(self._state()) > now:
            parts = self._releases, self._follower, self._imports, self._lookups, self._upstream
            for part in parts:
                part.rebase(now)
            self.writer.save_behind()

    def _state(self) -> State:
        return State(
            tuple(self._releases.kept()),
            self._upstream.all(),
            tuple(self._follower.lasting()),
            tuple(self._imports.kept()),
        )
