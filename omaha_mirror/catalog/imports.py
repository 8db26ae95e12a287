"""Where tracks lead according to bundles. It counts where upstream never answered: its word stands above.

A bundle holds the whole way of a track, so it replaces the way that an older one brought. One that leads less far than
what is here already changes no track: who brings the wrong stick takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel, rebased
from omaha_mirror.catalog.model import Release, Step
from omaha_mirror.catalog.upstream_answer import UpstreamPolicy
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
