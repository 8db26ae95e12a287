"""All channels: the followed ones, and those of imported bundles, which count where upstream never answered.

A bundle holds all releases that a track leads through, so it replaces an older bundle's. A bundle whose last release is
older than the imported one's changes no track.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from omaha_mirror.catalog.catalog_file import ReleaseKey, versions
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel, below, floors, rebased
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.model import Release, Step
from omaha_mirror.catalog.upstream_answer import UpstreamPolicy
from omaha_mirror.config.rules import Follow, Pin, Rule, track_upstream
from omaha_mirror.omaha import Version


@dataclass(frozen=True, slots=True)
class ImportedRelease:
    """A release that a bundle brings.

    Attributes:
        release: as upstream sent it to the exporting mirror.
        floor: whether each machine below must install it.
        extras: the names of its extra packages in the bundle.
    """

    release: Release
    floor: bool
    extras: frozenset[str]


class Imports:
    """The channels of imported bundles."""

    def __init__(self) -> None:
        self._kept: dict[ChannelKey, KeptChannel] = {}

    def restore(self, kept: Iterable[KeptChannel]) -> None:
        """Use the channels of an earlier process."""
        self._kept = {item.key: item for item in kept}

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        self._kept = {
            key: KeptChannel(key, rebased(kept.channel, now), min(kept.asked, now))
            for key, kept in self._kept.items()
        }

    def kept(self) -> list[KeptChannel]:
        """All imported channels."""
        return list(self._kept.values())

    def put(self, key: ChannelKey, brought: Sequence[ImportedRelease], now: float) -> bool:
        """Replace the steps of a track by the releases of a bundle, unless older imported ones lead farther; whether it did.

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
        """The followed channel; the imported one if upstream never answered."""
        kept = self._kept.get(key)
        return kept.channel if kept is not None and followed.policy is None else followed

    def added(self, followed: Iterable[KeptChannel]) -> list[KeptChannel]:
        """The followed channels with the imported ones; see `channel`."""
        kept = {**self._kept}
        for item in followed:
            kept[item.key] = replace(item, channel=self.channel(item.key, item.channel))
        return list(kept.values())


class Channels:
    """The steps of channels; `changed` must be called after each change of one.

    Args:
        follower: has the followed ones.
        imports: has the imported ones.

    Attributes:
        changes: number of calls of `changed`.
    """

    def __init__(self, follower: Follower, imports: Imports) -> None:
        self.changes = 0
        self._follower = follower
        self._imports = imports
        self._floors: dict[tuple[str, str], tuple[Step, ...]] = {}

    def changed(self) -> None:
        """Drop the cached floors."""
        self.changes += 1
        self._floors.clear()

    def kept(self) -> list[KeptChannel]:
        """All channels."""
        return self._imports.added(self._follower.kept())

    def versions(self) -> set[ReleaseKey]:
        """The versions of all steps, currently offered or not."""
        return versions(self.kept())

    def shown(self) -> list[KeptChannel]:
        """The channels that operators see, sorted."""
        return sorted(self._imports.added(self._follower.shown()), key=lambda kept: kept.key)

    def steps(self, app_id: str, board: str, track: str, rule: Rule) -> tuple[Step, ...]:
        """The steps of a track with this rule; `known` of each is empty.

        A pin's steps are the floors of all tracks below it, and the pin.
        """
        match rule:
            case Pin(version=version):
                return (*below(self._all_floors(app_id, board), version), Step(version))
            case Follow():
                key = ChannelKey(app_id, board, track_upstream(track, rule))
                channel = self._imports.channel(key, self._follower.channel(key))
                # A bundle has the machines' name of the track.
                return self._imports.channel(ChannelKey(app_id, board, track), channel).offered
            case _:
                return ()

    def _all_floors(self, app_id: str, board: str) -> tuple[Step, ...]:
        found = self._floors.get((app_id, board))
        if found is None:
            found = self._floors[app_id, board] = floors(self.kept(), app_id, board)
        return found
