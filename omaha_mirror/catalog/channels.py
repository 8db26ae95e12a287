"""All channels: those that are followed, and those of bundles, which count where upstream never answered."""

from __future__ import annotations

from omaha_mirror.catalog.channel import ChannelKey, KeptChannel, below, floors
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.imports import Imports
from omaha_mirror.catalog.model import Step
from omaha_mirror.catalog.state import ReleaseKey, versions
from omaha_mirror.config.rules import Follow, Pin, Rule, track_upstream


class Channels:
    """Tells where they lead; `changed` must be called when one leads elsewhere.

    Args:
        follower: of tracks.
        imports: of bundles.

    Attributes:
        changes: how often `changed` was called.
    """

    def __init__(self, follower: Follower, imports: Imports) -> None:
        self.changes = 0
        self._follower = follower
        self._imports = imports
        self._floors: dict[tuple[str, str], tuple[Step, ...]] = {}

    def changed(self) -> None:
        """What was worked out before is old."""
        self.changes += 1
        self._floors.clear()

    def kept(self) -> list[KeptChannel]:
        """All of them."""
        return self._imports.added(self._follower.kept())

    def versions(self) -> set[ReleaseKey]:
        """The versions that they lead to or through, whether they are offered at the moment or not."""
        return versions(self.kept())

    def shown(self) -> list[KeptChannel]:
        """Those that operators see, in order."""
        return sorted(self._imports.added(self._follower.shown()), key=lambda kept: kept.key)

    def steps(self, app_id: str, board: str, track: str, rule: Rule) -> tuple[Step, ...]:
        """Where a track leads that has this rule; nothing is known of the versions here.

        A pin's steps are the known floors below it, of whatever track, and the pin.
        """
        match rule:
            case Pin(version=version):
                return (*below(self._all_floors(app_id, board), version), Step(version))
            case Follow():
                key = ChannelKey(app_id, board, track_upstream(track, rule))
                channel = self._imports.channel(key, self._follower.channel(key))
                # A bundle names a track as the machines do.
                return self._imports.channel(ChannelKey(app_id, board, track), channel).offered
            case _:
                return ()

    def _all_floors(self, app_id: str, board: str) -> tuple[Step, ...]:
        found = self._floors.get((app_id, board))
        if found is None:
            found = self._floors[app_id, board] = floors(self.kept(), app_id, board)
        return found
