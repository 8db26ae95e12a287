"""Asking upstream's Omaha about pinned versions: it alone names all packages of a release.

It tells of a version where a track leads through it: the machines' own, or the channel that has such versions. So these
are walked once, and not followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.catalog.channel import ChannelKey
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.followed import channel_of
from omaha_mirror.catalog.state import ReleaseKey

PATIENCE = 60.0
"""Seconds that upstream has to tell of a pinned version."""
ASK_FIRST = 2.5
"""And those of them that a machine waits for it."""


class Pinned:
    """Asks once about each version.

    Args:
        follower: walks tracks.
        told: the versions that upstream told of.

    Attributes:
        asked: the versions that upstream was asked about, each with the question under way.
    """

    def __init__(self, follower: Follower, told: Container[ReleaseKey]) -> None:
        self._follower = follower
        self._told = told
        self.asked: dict[ReleaseKey, asyncio.Task[None] | None] = {}
        self._closed = False

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        tasks = [task for task in self.asked.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, key: ReleaseKey, track: str, wait: float) -> None:
        """Ask about a version that upstream has not told of, if that was not done.

        Whoever comes meanwhile waits for the answer too, `wait` seconds at most, and never for long.
        """
        if key in self._told or self._closed:
            return
        if key not in self.asked:
            channels = list(self._channels(key, track))
            walks = asyncio.create_task(self._walk(key, channels)) if channels else None
            self.asked[key] = walks
            if walks is not None:
                walks.add_done_callback(log_failure)
                walks.add_done_callback(lambda _: self.asked.update({key: None}))
        task = self.asked[key]
        if task is not None:
            await asyncio.wait([task], timeout=min(wait, ASK_FIRST))

    def _channels(self, key: ReleaseKey, track: str) -> Iterator[ChannelKey]:
        for name in dict.fromkeys((track, channel_of(key.version))):
            channel = ChannelKey(key.app_id, key.board, name)
            if name and self._follower.configured(channel):
                yield channel

    async def _walk(self, key: ReleaseKey, channels: Iterable[ChannelKey]) -> None:
        for channel in channels:
            if key not in self._told:
                await self._follower.follow(channel, PATIENCE)
