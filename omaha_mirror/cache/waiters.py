"""Those who read a growing blob: who they are, what they wait for, and how long they can be kept waiting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import islice
from typing import TYPE_CHECKING

from omaha_mirror.aio import workers
from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache.errors import CacheError, GenerationEnded, NoSpaceNow, NotInTime
from omaha_mirror.cache.fetch_scheduler import Claim
from omaha_mirror.cache.follower import Follower

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill

MANY = 16
"""So many readers speak for all where fills take turns."""


class Audience:
    """The readers of one fill. They are woken, and never poll."""

    def __init__(self, fill: Fill) -> None:
        self.followers: set[Follower] = set()
        self._late: set[Follower] = set()
        self._fill = fill
        self._waiting: dict[asyncio.Future[None], Follower] = {}
        self._moved = asyncio.Event()

    @property
    def newest(self) -> float:
        """When the last of them came, in monotonic seconds."""
        return max((follower.since for follower in self.followers), default=0.0)

    def patience_left(self, since: float = 0.0) -> float:
        """Seconds until somebody who waits since `since` has waited in vain for too long."""
        return max(since, self._fill.heard) + self._fill.limits.patience - time.monotonic()

    def _patience_of(self, follower: Follower) -> float:
        """The same of one reader; that others get bytes does not help who is held up."""
        if self.holds_up(follower):
            return follower.since + self._fill.limits.patience - time.monotonic()
        return self.patience_left(follower.since)

    def _can_wait(self, follower: Follower) -> bool:
        """Whether a client that lacks only the end of its range can still be kept waiting for the proof.

        Not where bytes pass through memory: it would hold up the others, and the proof with them.
        """
        fill = self._fill
        return not fill.in_order and time.monotonic() < follower.since + fill.limits.proof_seconds

    def edge(self, follower: Follower) -> int:
        """Where the bytes that the follower may have end; its own offset where it may have none."""
        self._fill.proving.look()
        if self.holds_up(follower) or self._fill.passed(follower.offset):
            return follower.offset
        released = self._fill.proving.released.run_end(follower.offset)
        return max(follower.offset, min(released, self._last(follower)))

    def holds_up(self, follower: Follower) -> bool:
        """Whether a range gets nothing before the whole is proven.

        It ends before the blob does, so that its client takes it for complete, and nothing but the whole speaks for
        some of its bytes: the head of a payload, which a client that resumes does not hash, or a file that is none.
        """
        fill = self._fill
        if fill.proof is not None or follower.stop >= fill.size:
            return False
        return fill.proving.covered.run_end(follower.start) < follower.stop

    def _last(self, follower: Follower) -> int:
        """Where its bytes end at the latest, as things stand.

        The last byte of a range waits for the proof of the whole, as long as its client can wait, and then for all that
        can be known of it alone: nobody is to end with unproven bytes who need not.
        """
        fill = self._fill
        if fill.proof is not None:
            return fill.size
        if follower.stop - 1 in fill.proving.proven:
            return follower.stop
        certain = follower.stop - 1 in fill.proving.completable
        return follower.stop - (self._can_wait(follower) or not certain)

    def claim(self) -> Claim:
        """What the fill has to say for itself where fills take turns."""
        fill, some = self._fill, islice(self.followers, MANY)
        clients = frozenset(follower.client for follower in some) - {""}
        return Claim(clients, fill.source.name.rpartition("/")[0], fill.size - fill.filled.total)

    def leave(self, follower: Follower) -> None:
        """Forget a reader."""
        self.followers.discard(follower)
        self._late.discard(follower)
        self.moved()

    async def wait(self, follower: Follower) -> int:
        """Where the bytes that the follower may have now end.

        At the edge of a healthy fill that is a trickle of what is held back, so that no client times out; never the
        last byte.

        Raises:
            NotInTime: there was nothing to give for as long as a client can be kept waiting.
            GenerationEnded: it has wrong bytes, or its bytes have passed while it was held up.
            NoSpaceNow: they have passed, and will pass as before.
            CacheError: the fill failed.
            Hangs: the disk does not answer.
        """
        fill = self._fill
        while (edge := self.edge(follower)) <= follower.offset:
            if fill.proof is not None and fill.passed(follower.offset):
                raise _passed(fill)
            if fill.ended:
                failure = fill.failure or CacheError(f"no byte {follower.offset} of {fill.size}")
                raise failure.with_traceback(None)
            if follower.is_cut:
                raise GenerationEnded("some of the bytes sent so far were wrong")
            if fill.is_stuck:
                raise Hangs(workers.BLOBS)
            patience = self._patience_of(follower)
            if patience <= 0:
                raise NotInTime(self._silence(follower)) from fill.trouble
            hunger = follower.fed + fill.limits.trickle_seconds - time.monotonic()
            if hunger <= 0 and (crumb := self._crumb(follower)) > follower.offset:
                return crumb
            pause = hunger if hunger > 0 else fill.limits.trickle_seconds
            if self._can_wait(follower):
                pause = min(pause, follower.since + fill.limits.proof_seconds - time.monotonic())
            await self._woken(follower, min(patience, pause, workers.PATIENCE))
        return edge

    async def _woken(self, follower: Follower, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[woken] = follower
        try:
            self._fill.want(follower.offset)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken
        finally:
            del self._waiting[woken]

    def waited_for(self) -> list[int]:
        """The offsets that they wait for, in order."""
        return sorted({follower.offset for follower in self._waiting.values()})

    def _crumb(self, follower: Follower) -> int:
        fill = self._fill
        if self.holds_up(follower):
            return follower.offset
        return min(
            fill.filled.run_end(follower.offset),
            follower.offset + fill.limits.trickle_bytes,
            fill.size - 1,
            self._last(follower),
        )

    def _silence(self, follower: Follower) -> str:
        fill = self._fill
        why = f": {fill.trouble}" if fill.trouble is not None else ""
        if self.holds_up(follower):
            waited = f"{fill.limits.patience:.0f} s"
            return f"{fill.source.name} was not proven in {waited}, and this part of it waits for that{why}"
        return f"nothing from {fill.source.name} for {fill.limits.patience:.0f} s{why}"

    def wake(self) -> None:
        """Wake those who can go on."""
        fill = self._fill
        for woken, follower in self._waiting.items():
            over = fill.ended or fill.proof is not None or follower.is_cut
            if (over or self.edge(follower) > follower.offset) and not woken.done():
                woken.set_result(None)

    # Passing through a spool

    def moved(self) -> None:
        """A reader went on, or left."""
        self._moved.set()

    @property
    def entitled(self) -> set[Follower]:
        """Those whose bytes must not be pushed out. The proof that some wait for comes only when all has passed."""
        return {f for f in self.followers - self._late if not self.holds_up(f)}

    def _needed_from(self) -> int:
        """The first byte in passing that is still needed: to be hashed, or by a reader."""
        fill, hashed = self._fill, self._fill.proving.hashed
        top = fill.filled.run_end(hashed)
        readers = (f.offset for f in self.entitled if f.offset < top)
        return min(map(fill.passing, [hashed, *readers]))

    async def room(self, offset: int) -> None:
        """Return when nobody needs bytes before `offset`; who holds up the others for too long is cut."""
        while self._needed_from() < offset:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._fill.limits.lag_seconds):
                    await self._passed(offset)
                    return
            if self._waiting:
                self._cut_laggards(offset)

    async def _passed(self, offset: int) -> None:
        while self._needed_from() < offset:
            self._moved.clear()
            await self._moved.wait()

    def _cut_laggards(self, offset: int) -> None:
        for follower in self.entitled - set(self._waiting.values()):
            if follower.offset < offset:
                self._late.add(follower)
                follower.cut()


def _passed(fill: Fill) -> CacheError:
    """Of a proven blob that was not kept: with its head known, another round gives who was held up its bytes at once."""
    if fill.proof is not None and fill.proof.head is not None:
        return GenerationEnded("the bytes have passed")
    return NoSpaceNow(f"a part of {fill.source.name} cannot be had: there is no room to keep it")
