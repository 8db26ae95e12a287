"""All channels: the followed ones, and those of imported bundles, which count where upstream never answered.

A bundle holds all releases that a track leads through, so it replaces an older bundle's. A bundle whose last release is
older than the imported one's changes no track.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel, below, floors, rebased
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.model import Release, Step
from omaha_mirror.catalog.state import ReleaseKey, versions
from omaha_mirror.catalog.upstream_answer import UpstreamPolicy
from omaha_mirror.config.rules import Follow, Pin, Rule, track_upstream
from omaha_mirror.omaha import Version


@dataclass(frozen=True, slots=True)
class ImportedRelease:
    """A release that a bundle brings.

    Attributes:
        release: as it was told where the bundle was made.
        floor: whether no machine below may pass it by.
        extras: the names of its extra packages that came along.
    """

    release: Release
    floor: bool
    extras: frozenset[str]


class Imports:
    """The tracks of bundles, by key."""

    def __init__(self) -> None:
        self._kept: dict[ChannelKey, KeptChannel] = {}

    def restore(self, kept: Iterable[KeptChannel]) -> None:
        """Take up what was kept."""
        self._kept = {item.key: item for item in kept}

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        self._kept = {
            key: KeptChannel(key, rebased(kept.channel, now), min(kept.asked, now))
            for key, kept in self._kept.items()
        }

    def kept(self) -> list[KeptChannel]:
        """All that bundles brought."""
        return list(self._kept.values())

    def put(self, key: ChannelKey, brought: Sequence[ImportedRelease], now: float) -> bool:
        """Lead a track through the releases of a bundle, oldest first; whether it leads there now.

        Args:
            key: of the track.
            brought: one release or more.
            now: when what is new here was first seen here, in seconds since the epoch.
        """
        old = self._kept.get(key)
        seen = {step.version: step.seen for step in old.channel.steps} if old is not None else {}
        versions = [item.release.version for item in brought]
        target = Version.parse(versions[-1])
        if any(Version.parse(version) > target for version in seen):
            return False
        steps = tuple(
            Step(version, floor=item.floor, seen=seen.get(version, now))
            for version, item in zip(versions, brought, strict=True)
        )
        channel = Channel(steps, UpstreamPolicy.OFFERS, "imported from a bundle")
        self._kept[key] = KeptChannel(key, channel, now)
        return True

    def channel(self, key: ChannelKey, followed: Channel) -> Channel:
        """Where a track leads: as upstream says, or where it never answered, as a bundle does."""
        kept = self._kept.get(key)
        return kept.channel if kept is not None and followed.policy is None else followed

    def added(self, followed: Iterable[KeptChannel]) -> list[KeptChannel]:
        """All tracks, the followed ones and those of bundles; see `channel`."""
        kept = {**self._kept}
        for item in followed:
            kept[item.key] = replace(item, channel=self.channel(item.key, item.channel))
        return list(kept.values())


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
