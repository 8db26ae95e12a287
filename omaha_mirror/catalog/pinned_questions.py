"""Asks upstream's Omaha server for the manifests of pinned versions: only a manifest names all packages of a release.

The server sends the manifest of a version only on a track that leads through it. So the machines' own track and the
version's Flatcar channel are walked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator

from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.catalog.catalog_file import ReleaseKey
from omaha_mirror.catalog.channel import ChannelKey
from omaha_mirror.catalog.follow import Follower
from omaha_mirror.catalog.followed import channel_of

PATIENCE = 60.0
"""Seconds that the walks may take."""
ASK_FIRST = 2.5
"""Seconds of them that a machine waits."""


class Pinned:
    """Asks once about each version.

    Args:
        follower: walks tracks.
        sent: the versions whose manifest upstream sent.

    Attributes:
        asked: the versions that upstream was asked about, each with the question under way.
    """

    def __init__(self, follower: Follower, sent: Container[ReleaseKey]) -> None:
        self._follower = follower
        self._sent = sent
        self.asked: dict[ReleaseKey, asyncio.Task[None] | None] = {}
        self._closed = False

    async def close(self) -> None:
        """Stop the walks."""
        self._closed = True
        tasks = [task for task in self.asked.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, key: ReleaseKey, track: str, wait: float) -> None:
        """Ask about a version once, unless upstream sent its manifest already.

        Waits for the running walks, at most `wait` seconds and at most `ASK_FIRST`.
        """
        if key in self._sent or self._closed:
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

    def is_over(self, key: ReleaseKey) -> bool:
        """Whether `ask` would neither ask about a version nor wait."""
        asked = key in self.asked and self.asked[key] is None
        return asked or key in self._sent or self._closed

    def _channels(self, key: ReleaseKey, track: str) -> Iterator[ChannelKey]:
        for name in dict.fromkeys((track, channel_of(key.version))):
            channel = ChannelKey(key.app_id, key.board, name)
            if name and self._follower.configured(channel):
                yield channel

    async def _walk(self, key: ReleaseKey, channels: Iterable[ChannelKey]) -> None:
        for channel in channels:
            if key not in self._sent:
                await self._follower.follow(channel, PATIENCE)
