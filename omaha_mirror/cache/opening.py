"""A proven blob that is being opened: a disk that hangs must not hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache.errors import CacheError, Lost
from omaha_mirror.cache.follower import Follower
from omaha_mirror.cache.store import Place


class Opening:
    """Who waits for it looks again when it is open, or known not to be had.

    Args:
        work: opens it, and notes what came of it; raises nothing.
        let_go: told, when it is open and nobody waits any more; called a little later, when they look again.
    """

    def __init__(self, work: Awaitable[None], let_go: Callable[[], object]) -> None:
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(self._look))
        self._let_go = let_go
        self._followers: set[Follower] = set()

    def attach(self, follower: Follower) -> None:
        """Count a reader in."""
        self._followers.add(follower)

    def detach(self, follower: Follower) -> None:
        """Count a reader out. It looks again at once, or has gone."""
        self._followers.discard(follower)
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._task.done() and not self._followers:
            self._let_go()

    def edge(self, follower: Follower) -> int:
        """Nothing may leave yet."""
        return follower.offset

    def place(self, offset: int) -> Place:
        """There is none."""
        raise CacheError(f"byte {offset} is not there yet")

    async def leave(self, start: int, stop: int) -> None:
        """Nothing leaves."""

    def gave(self) -> None:
        """Nothing left."""

    async def wait(self, follower: Follower) -> int:  # noqa: ARG002
        """Wait until it is open. Raises Lost: then look again."""
        await asyncio.wait([self._task])
        raise Lost("it is open, or known not to be had")

    def hangs(self, error: Hangs, follower: Follower) -> bool:  # noqa: ARG002
        """Nothing of it is read here."""
        raise error

    def broken(self, reason: str) -> None:
        """Nothing of it is read here."""
        raise CacheError(reason)
