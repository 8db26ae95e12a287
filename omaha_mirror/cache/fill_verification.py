"""Verifies the bytes of a growing blob as they arrive, until all are right; wrong ones are fetched again.

Wrong bytes are removed from the fill, and a cursor of their own fetches them anew. Where some of them were sent (held-back
bytes for a client that waited too long, or a part of an operation that is too large to wait for), their readers are cut, and
for a while no client may resume the blob.

Phases: `begin` once the draft is open, then `run` in a task of its own, which ends with the proof or an error; after it,
`end` where the fill failed, and `lose` at any time. `before_send` and `attached` come from readers in between. It alone writes
the `Clearance`; it owns `_sent` and `_times_wrong`, and `_in_doubt`: whether bytes left that only the whole digest will judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import BLOBS, Hangs
from omaha_mirror.cache.blob import Expected, Hasher, Head, Proof
from omaha_mirror.cache.errors import CacheError, DigestMismatch, Lost, Unreadable, Untrusted
from omaha_mirror.cache.events import FillStarted, Repaired
from omaha_mirror.cache.failures import RESUME_UNSAFE_SECONDS
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import Clearance, FillState
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Prover, Ruling, Span
from omaha_mirror.cache.store import Draft
from omaha_mirror.cache.waiters import Waiters
from omaha_mirror.cache.write_behind import sync

STEP = 2 * 1024 * 1024
"""Bytes that are hashed at a time."""
WAKE_SECONDS = 0.0001
"""Seconds between two wake-ups, for each reader: many readers are woken less often, with more bytes each time."""
WAKE_AT_MOST = 0.02
RECHECK_HOLD = 5.0
"""Seconds for which a recheck holds back the bytes that only the digest of the whole covers."""
NOTED_AGAIN = RESUME_UNSAFE_SECONDS / 3
"""Seconds after which it is noted once more that bytes leave of which a crash leaves nothing: such a note grows old."""
TRIES = 3
"""How often the same bytes may be wrong before the fill fails: the digest in the manifest may be wrong itself."""


class Verification:
    """Of one fill.

    Args:
        state: of the fill.
        clearance: to be written.
        prover: judges the bytes.
        waiters: are woken, and cut where they got wrong bytes.
        context: of the fill.
        changed: called when other bytes are needed than before.
    """

    def __init__(
        self,
        state: FillState,
        clearance: Clearance,
        prover: Prover,
        waiters: Waiters,
        context: FillContext,
        changed: Callable[[], None],
    ) -> None:
        self.grown = asyncio.Event()
        self._state = state
        self._clearance = clearance
        self._prover = prover
        self._waiters = waiters
        self._context = context
        self._changed = changed
        self._digests = DigestRun(state.expected, prover, state.source.name)
        self._sent = Intervals()
        self._in_doubt = False
        self._noted_at = -math.inf
        self._noting = asyncio.Lock()
        self._head: Head | None = None
        self._hold_until = 0.0
        self._times_wrong: Counter[Span] = Counter()

    def begin(self, draft: Draft) -> None:
        """Go on with the bytes of the draft."""
        self._in_doubt = draft.leaked
        self._noted_at = time.monotonic() if draft.leaked else -math.inf
        self._sent = draft.filled if draft.leaked else Intervals()
        if self._state.is_recheck:
            self._hold_until = time.monotonic() + RECHECK_HOLD
        elif self._context.failures.is_resume_unsafe(self._state.expected.key):
            self._waiters.cut_resumed()

    def attached(self, start: int, offset: int) -> None:
        """Note that a reader has [start, offset) already; of this blob where it is a recheck."""
        if self._state.is_recheck and start < offset:
            self._sent = self._sent.add(start, offset)

    def lose(self, reason: str) -> Lost:
        """Release nothing any more: the bytes cannot be read."""
        self.grown.set()
        return self._clearance.lose(reason)

    def leaves_doubt(self) -> bool:
        """Whether bytes were sent that nobody will judge: they are gone, and others will come in their place."""
        state = self._state
        is_lost = state.proof is None and (state.in_order or isinstance(state.failure, Unreadable))
        return is_lost and (state.current_draft is None or self._in_doubt)

    def end(self, failure: CacheError) -> None:
        """Release nothing any more, and cut the readers that may have got wrong bytes."""
        self._clearance.released = Intervals()
        for reader in list(self._waiters.readers):
            is_right = self._clearance.is_right(reader.start, reader.reach)
            if not is_right or isinstance(failure, Untrusted) or not self._state.is_recheck:
                reader.cut()

    async def before_send(self, start: int, stop: int) -> None:
        """Note that [start, stop) is sent; where it may turn out wrong, that is written down first, for after a crash.

        Of the head, which no digest inside the blob covers, the draft tells after a crash, unless it is in memory.

        Raises:
            Hangs: the disk does not answer.
        """
        state, clearance = self._state, self._clearance
        head = 0 if state.is_recheck else clearance.head
        self._sent = self._sent.add(start, stop)
        is_sure = clearance.is_right(max(start, head), stop)
        if state.is_recheck:
            state.leaked = state.leaked or not is_sure
        self._in_doubt = self._in_doubt or not is_sure
        is_head_right = clearance.is_right(0, head)
        if start < head and not is_head_right and self._head is not None:
            self._context.failures.sent_head(state.expected.key, self._head)
        if not is_sure or (state.in_order and not is_head_right):
            await self._note_doubt()

    async def _note_doubt(self) -> None:
        draft, again = self._state.draft, NOTED_AGAIN if self._state.in_order else math.inf
        if time.monotonic() - self._noted_at < again or (self._state.in_order and BLOBS.hanging()):
            return
        async with self._noting:
            if time.monotonic() - self._noted_at >= again:
                try:
                    await BLOBS.patiently(None, draft.leak)
                except OSError as error:  # such a disk is given up anyway
                    if isinstance(error, Hangs) and not self._state.in_order:
                        raise
                self._noted_at = time.monotonic()

    async def run(self) -> Proof:
        """Return when the blob is proven.

        Raises:
            GenerationEnded: it cannot become the expected blob.
            OSError: the store failed.
        """
        while True:
            await self._wait_for_bytes()
            more = True
            while more:
                more = await self._step()
                if self._digests.proof is not None:
                    return self._digests.proof
            await asyncio.sleep(min(WAKE_AT_MOST, WAKE_SECONDS * len(self._waiters.readers)))

    async def _wait_for_bytes(self) -> None:
        """Return when bytes arrived, or bytes of a recheck are not held back any longer."""
        hold = self._hold_until - time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold if hold > 0 else None):
                await self.grown.wait()
        self.grown.clear()

    async def _step(self) -> bool:
        """Judge a few bytes; whether more wait to be judged."""
        state, clearance = self._state, self._clearance
        awaited = self._waiters.waited_for() if state.is_recheck else []
        ruling = await in_worker(self._digests.step, state.draft, state.filled, awaited)
        if clearance.lost is not None:
            raise clearance.lost
        had_begun = bool(clearance.completable)
        if ruling.completable and not had_begun:
            await self._head_is_here(is_right=bool(ruling.proven))
        self._apply(ruling)
        leaked = [self._take_back(start, stop) for start, stop in ruling.wrong]
        for (start, stop), left in zip(ruling.wrong, leaked, strict=True):
            with contextlib.suppress(OSError):  # after a restart they are found wrong once more
                await in_worker(state.draft.drop, start, stop, leaked=left)
            self._prover.dropped(start, stop)
            event = Repaired(state.expected.key, state.source.name, start, stop, left)
            self._context.hook(event)
        if leaked or bool(clearance.completable) != had_begun:
            self._changed()
        self._waiters.notify()
        self._waiters.progressed()
        return ruling.more

    async def _head_is_here(self, *, is_right: bool) -> None:
        """See to it that nobody goes on from another head than this one.

        A wrong head that no digest covers shows later, and who resumes is told to begin anew. If a power cut took it, the
        right one would come in its place, and a client that has the wrong one would complete with it.
        """
        state, context = self._state, self._context
        if not is_right:
            await sync(state.draft.record)
        self._head = head = await context.heads.here(state.size, state.draft.read)
        if head is not None and context.failures.has_sent_another(state.expected.key, head):
            self._waiters.cut_resumed()

    def _apply(self, ruling: Ruling) -> None:
        clearance = self._clearance
        clearance.judged, clearance.completable = ruling.judged, ruling.completable
        clearance.covered, clearance.proven = ruling.covered, ruling.proven
        clearance.hashed = self._digests.hashed
        if self._state.is_recheck:
            self._state.last_byte_at = time.monotonic()
        hold = time.monotonic() < self._hold_until
        clearance.released = ruling.judged if hold else ruling.released

    def _take_back(self, start: int, stop: int) -> bool:
        """Remove [start, stop), which is wrong, from the fill; whether some of it was sent."""
        state, key = self._state, self._state.expected.key
        if state.is_recheck and not state.repairs:
            state.repairs = True
            self._context.repair(state)
            self.announce()
        self._times_wrong[start, stop] += 1
        if self._times_wrong[start, stop] > 1:
            state.nodes.exclude(start, stop)
        if self._times_wrong[start, stop] >= TRIES:
            raise DigestMismatch(
                f"{state.source.name}: bytes {start} to {stop} were wrong {TRIES} times"
            )
        leaked = bool(self._sent.clip(start, stop))
        self._sent = self._sent.remove(start, stop)
        self._clearance.remove(start, stop)
        state.filled = state.filled.remove(start, stop)
        if leaked:
            self._context.failures.mark_resume_unsafe(key)
        self._waiters.cut(start, stop)
        return leaked

    def announce(self) -> None:
        """Report that bytes are fetched from now on."""
        state = self._state
        key, source = state.expected.key, state.source.name
        self._context.hook(FillStarted(key, source, state.size, state.filled.total))


class DigestRun:
    """Calls the prover, and runs the digests of the whole over the hashable bytes, read back from the draft.

    Args:
        expected: size and digests that the blob must have.
        prover: decides which bytes may be sent before the blob is proven.
        source: the URL, for people.
    """

    def __init__(self, expected: Expected, prover: Prover, source: str) -> None:
        self.proof: Proof | None = None
        self._expected = expected
        self._hasher = Hasher(expected)
        self._prover = prover
        self._source = source

    @property
    def hashed(self) -> int:
        """The number of bytes, from the first one on, that the digests have."""
        return self._hasher.position

    def step(self, draft: Draft, filled: Intervals, awaited: Sequence[int] = ()) -> Ruling:
        """A little work, in a worker thread; with the last of it, `proof` is there.

        Args:
            draft: where the bytes lie.
            filled: those that are there.
            awaited: offsets that readers wait for: the bytes there are judged first.

        Raises:
            DigestMismatch: bytes are wrong, and no digest shows which.
            Untrusted: the digest is right, but the blob must not be served.
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
