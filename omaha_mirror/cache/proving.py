"""Has a growing blob judged as it comes, until all of it is right, and has fetched again what is not.

Wrong bytes are taken back, and a connection of their own brings them anew. Where some of them had left, and those
are few (a crumb for who had to wait, the inside of an operation that is too large to wait for), whoever got them is
cut, and for a while nobody goes on with what may begin with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.errors import DigestMismatch
from omaha_mirror.cache.events import Mended
from omaha_mirror.cache.finish import in_worker
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.judge import Judge
from omaha_mirror.cache.prover import Prover, Span
from omaha_mirror.cache.store import Draft

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill

WAKE_SECONDS = 0.0001
"""Time between two wake-ups for each reader: many are woken less often, with more for each."""
WAKE_AT_MOST = 0.02
TRIES = 3
"""How often the same bytes may turn out wrong: what they are held against may be wrong itself."""


class Proving:
    """What is known of the bytes of a fill.

    Attributes:
        released: bytes that may leave.
        settled: bytes that a range may end with before the whole is proven.
        spoken: where a range may lie that ends before the blob does.
        proven: bytes that a range may end with at once.
        dropped: what was ever taken back.

    Args:
        fill: whose bytes.
        prover: judges them.
        changed: called when other bytes are needed than before.
    """

    def __init__(self, fill: Fill, prover: Prover, changed: Callable[[], None]) -> None:
        self.released = Intervals()
        self.settled = Intervals()
        self.spoken = Intervals()
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

    async def leave(self, start: int, stop: int) -> None:
        """Note that [start, stop) leaves; where that may turn out wrong, a crash must not make it forgotten."""
        self._left = self._left.add(start, stop)
        if min(self.released.run_end(start), self.settled.run_end(start)) < stop:
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
            await self.grown.wait()
            self.grown.clear()
            more = True
            while more:
                more = await self._step()
                if self._judge.proof is not None:
                    return self._judge.proof
            await asyncio.sleep(min(WAKE_AT_MOST, WAKE_SECONDS * len(self._fill.followers)))

    async def _step(self) -> bool:
        fill = self._fill
        ruling = await in_worker(self._judge.step, fill.draft, fill.filled)
        has_begun = bool(self.settled)
        self.released, self.settled = ruling.released, ruling.settled
        self.spoken, self.proven = ruling.spoken, ruling.proven
        leaked = [self._take_back(start, stop) for start, stop in ruling.wrong]
        for (start, stop), left in zip(ruling.wrong, leaked, strict=True):
            with contextlib.suppress(OSError):  # after a restart they are found wrong once more
                await in_worker(fill.draft.drop, start, stop, leaked=left)
            self._prover.dropped(start, stop)
            fill.hook(Mended(fill.expected.key, fill.source.name, start, stop, left))
        if leaked or bool(self.settled) != has_begun:
            self._changed()
        fill.woke()
        return ruling.more

    def _take_back(self, start: int, stop: int) -> bool:
        """Nobody gets them any more; whether somebody has some of them."""
        fill = self._fill
        self._wrong[start, stop] += 1
        if self._wrong[start, stop] > 1:
            fill.nodes.leave(start, stop)
        if self._wrong[start, stop] >= TRIES:
            raise DigestMismatch(
                f"{fill.source.name}: bytes {start} to {stop} were wrong {TRIES} times"
            )
        leaked = bool(self._left.clip(start, stop))
        self._left = self._left.remove(start, stop)
        self.released = self.released.remove(start, stop)
        self.settled = self.settled.remove(start, stop)
        self.proven = self.proven.remove(start, stop)
        self.dropped = self.dropped.add(start, stop)
        fill.take_back(start, stop, leaked=leaked)
        return leaked
