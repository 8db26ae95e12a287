"""Has a growing blob judged as it comes, until all of it is right, and has fetched again what is not.

Wrong bytes are taken back, and a connection of their own brings them anew. Where some of them had left, and those
are few (a crumb for who had to wait, the inside of an operation that is too large to wait for), whoever got them is
cut, and for a while nobody goes on with what may begin with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.blob import Expected, Hasher, Proof
from omaha_mirror.cache.errors import CacheError, DigestMismatch, Lost, Untrusted
from omaha_mirror.cache.events import Repaired
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Prover, Ruling, Span
from omaha_mirror.cache.store import Draft, identity

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill

WAKE_SECONDS = 0.0001
"""Time between two wake-ups for each reader: many are woken less often, with more for each."""
WAKE_AT_MOST = 0.02
HOPE = 5.0
"""Seconds that what nothing but the whole speaks for is held back, where all is here and only to be proven again."""
TRIES = 3
"""How often the same bytes may turn out wrong: what they are held against may be wrong itself."""


class Proving:
    """What is known of the bytes of a fill.

    Attributes:
        released: bytes that may leave.
        judged: bytes that have a digest of their own, and are right by that.
        completable: bytes that a range may end with before the whole is proven.
        covered: where a range may lie that ends before the blob does.
        proven: bytes that a range may end with at once.
        dropped: what was ever taken back: nobody need ask for it to be fetched again.

    Args:
        fill: whose bytes.
        prover: judges them.
        changed: called when other bytes are needed than before.
    """

    def __init__(self, fill: Fill, prover: Prover, changed: Callable[[], None]) -> None:
        self.released = Intervals()
        self.judged = Intervals()
        self.completable = Intervals()
        self.covered = Intervals()
        self.proven = Intervals()
        self.dropped = Intervals()
        self.grown = asyncio.Event()
        self.needs = prover.needs
        self._fill = fill
        self._prover = prover
        self._changed = changed
        self._judge = Judge(fill.expected, prover, fill.source.name)
        self._left = Intervals()
        self._told = False
        self._hopes_until = 0.0
        self.lost: Lost | None = None
        self._telling = asyncio.Lock()
        self._wrong: Counter[Span] = Counter()

    @property
    def hashed(self) -> int:
        """How many bytes, from the first one on, are no longer needed for the proof."""
        return self._judge.hashed

    def begin(self, draft: Draft) -> None:
        """Go on with what was found on disk."""
        self._told = draft.leaked
        self._left = draft.filled if draft.leaked else Intervals()
        if self._fill.checks:
            self._hopes_until = time.monotonic() + HOPE

    def is_right(self, start: int, stop: int) -> bool:
        """Whether [start, stop) is right, whatever the whole turns out to be."""
        return start >= stop or self.judged.run_end(start) >= stop

    def has(self, start: int, stop: int) -> None:
        """A reader that comes has [start, stop) already: of this blob, if it was here before."""
        if self._fill.checks and start < stop:
            self._left = self._left.add(start, stop)

    def look(self) -> None:
        """Let nothing more leave where the file is another than the one that was proven."""
        fill = self._fill
        is_proven = fill.identity is not None and fill.failure is None
        if is_proven and identity(fill.place(0).file) != fill.identity:
            fill.failure = self.lose("the file was written since it was proven")

    def unreadable(self, reason: str) -> None:
        """See `Fill.broken`."""
        fill = self._fill
        if not fill.ended and (fill.checks or fill.proof is not None):
            self.lose(reason)
        elif fill.identity is None or not fill.ended:
            raise CacheError(reason)
        elif fill.failure is None:
            fill.failure = self.lose(reason)
            fill.setting.damaged(reason)

    def lose(self, reason: str) -> Lost:
        """The bytes cannot be read any more: none leaves."""
        self.lost, self.released = Lost(reason), Intervals()
        self.grown.set()
        return self.lost

    def end(self, failure: CacheError) -> None:
        """Nothing leaves any more; who got what may be wrong does not go on."""
        self.released = Intervals()
        for follower in list(self._fill.followers):
            is_right = self.is_right(follower.start, follower.reach)
            if not is_right or isinstance(failure, Untrusted) or not self._fill.checks:
                follower.cut()

    async def leave(self, start: int, stop: int) -> None:
        """Note that [start, stop) leaves; where that may turn out wrong, a crash must not make it forgotten."""
        self._left = self._left.add(start, stop)
        is_sure = min(self.released.run_end(start), self.completable.run_end(start)) >= stop
        if self._fill.checks:
            is_sure = self.is_right(start, stop)
            self._fill.leaked = self._fill.leaked or not is_sure
        if not is_sure:
            async with self._telling:
                if not self._told:
                    with contextlib.suppress(OSError):  # such a disk is given up anyway
                        await in_worker(self._fill.draft.leak)
                    self._told = True

    async def run(self) -> Proof:
        """Return when all of it is right.

        Raises:
            GenerationEnded: it never will be.
            OSError: the store failed.
        """
        while True:
            await self._something_new()
            more = True
            while more:
                more = await self._step()
                if self._judge.proof is not None:
                    return self._judge.proof
            await asyncio.sleep(min(WAKE_AT_MOST, WAKE_SECONDS * len(self._fill.followers)))

    async def _something_new(self) -> None:
        """Bytes came, or there is no hope left that all is right soon."""
        hopes = self._hopes_until - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hopes if hopes > 0 else None):
                await self.grown.wait()
        self.grown.clear()

    async def _step(self) -> bool:
        fill = self._fill
        awaited = fill.audience.waited_for() if fill.checks else []
        ruling = await in_worker(self._judge.step, fill.draft, fill.filled, awaited)
        if self.lost is not None:
            raise self.lost
        has_begun = bool(self.completable)
        self._rule(ruling)
        leaked = [self._take_back(start, stop) for start, stop in ruling.wrong]
        for (start, stop), left in zip(ruling.wrong, leaked, strict=True):
            with contextlib.suppress(OSError):  # after a restart they are found wrong once more
                await in_worker(fill.draft.drop, start, stop, leaked=left)
            self._prover.dropped(start, stop)
            fill.hook(Repaired(fill.expected.key, fill.source.name, start, stop, left))
        if leaked or bool(self.completable) != has_begun:
            self._changed()
        fill.woke()
        return ruling.more

    def _rule(self, ruling: Ruling) -> None:
        self.judged, self.completable = ruling.judged, ruling.completable
        self.covered, self.proven = ruling.covered, ruling.proven
        if self._fill.checks:
            self._fill.heard = time.monotonic()
        hopes = time.monotonic() < self._hopes_until
        self.released = ruling.judged if hopes else ruling.released

    def _take_back(self, start: int, stop: int) -> bool:
        """Nobody gets them any more; whether somebody has some of them."""
        fill = self._fill
        if fill.checks and not fill.mends:
            fill.mends = True
            fill.setting.mending()
            fill.tell_start()
        self._wrong[start, stop] += 1
        if self._wrong[start, stop] > 1:
            fill.nodes.exclude(start, stop)
        if self._wrong[start, stop] >= TRIES:
            raise DigestMismatch(
                f"{fill.source.name}: bytes {start} to {stop} were wrong {TRIES} times"
            )
        leaked = bool(self._left.clip(start, stop))
        self._left = self._left.remove(start, stop)
        self.released = self.released.remove(start, stop)
        self.judged = self.judged.remove(start, stop)
        self.completable = self.completable.remove(start, stop)
        self.proven = self.proven.remove(start, stop)
        self.dropped = self.dropped.add(start, stop)
        fill.take_back(start, stop, leaked=leaked)
        return leaked


STEP = 2 * 1024 * 1024


class Judge:
    """Asks the prover, and runs the digests over what is hashable, read back from where it lies.

    Args:
        expected: what the blob must become.
        prover: says what may leave before that is known.
        source: where the bytes come from, for people.
    """

    def __init__(self, expected: Expected, prover: Prover, source: str) -> None:
        self.proof: Proof | None = None
        self._expected = expected
        self._hasher = Hasher(expected)
        self._prover = prover
        self._source = source

    @property
    def hashed(self) -> int:
        """How many bytes, from the first one on, the digests have seen."""
        return self._hasher.position

    def step(self, draft: Draft, filled: Intervals, awaited: Sequence[int] = ()) -> Ruling:
        """A little work, in a worker thread; with the last of it, `proof` is there.

        Args:
            draft: where the bytes lie.
            filled: those that are there.
            awaited: offsets that are waited for: what is there is judged first.

        Raises:
            DigestMismatch: something is wrong that cannot be mended.
            Untrusted: the digest is right, and the blob is not to be served all the same.
            OSError: the store failed.
        """
        ruling = self._prover.examine(filled, draft.read, draft.capacity, awaited)
        for start, stop in ruling.wrong:
            if start < self.hashed:
                if draft.capacity is not None:
                    raise DigestMismatch(f"{self._source}: bytes {start} to {stop} are wrong")
                self._hasher = Hasher(self._expected)
                return replace(ruling, more=True)
        ready = ruling.hashable.run_end(0)
        count = min(ready - self.hashed, STEP)
        data = draft.read(self.hashed, count)
        if count and not data:
            raise OSError(f"bytes that were written are missing at {self.hashed}")
        self._hasher.update(data)
        self._prover.take(data)
        if self.hashed == self._expected.size:
            return self._concluded(ruling, draft)
        return replace(ruling, more=ruling.more or self.hashed < ready)

    def _concluded(self, ruling: Ruling, draft: Draft) -> Ruling:
        verdict, is_all_there = self._hasher.judge(), draft.capacity is None
        if isinstance(verdict, Proof):
            signed_by = self._prover.conclude(draft.read if is_all_there else None)
            self.proof = replace(verdict, signed_by=signed_by, head=self._prover.head())
            return ruling
        suspects = self._prover.suspects() if is_all_there else ()
        if not suspects:
            raise DigestMismatch(f"{self._source}: {verdict}")
        self._hasher = Hasher(self._expected)
        return replace(ruling, wrong=suspects)
