"""The readers of one growing blob: what each may have now, and how long it can be kept waiting.

A reader is added, asks for its edge and waits as often as it likes, and is removed. `notify` and `progressed` wake the readers that can
go on; none polls. Only this module changes the set of readers; it changes nothing of the fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import islice

from omaha_mirror.aio import workers
from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache.errors import CacheError, GenerationEnded, NoSpaceNow, NotInTime
from omaha_mirror.cache.fetch_scheduler import Claim, Priority
from omaha_mirror.cache.fill_state import Clearance, FillState
from omaha_mirror.cache.reader import Reader
from omaha_mirror.cache.store import identity

MANY = 16
"""So many readers speak for all where fills take turns."""


class Waiters:
    """The readers of one fill.

    Args:
        state: of the fill.
        clearance: what may leave.
        want: called with an offset that a reader waits for.
    """

    def __init__(
        self, state: FillState, clearance: Clearance, want: Callable[[int], object]
    ) -> None:
        self.readers: dict[Reader, None] = {}
        self._late: set[Reader] = set()
        self._state = state
        self._clearance = clearance
        self._want = want
        self._waiting: dict[asyncio.Future[None], Reader] = {}
        self._progress = asyncio.Event()

    def add(self, reader: Reader) -> None:
        """Count a reader in."""
        self.readers[reader] = None

    def remove(self, reader: Reader) -> None:
        """Forget a reader."""
        self.readers.pop(reader, None)
        self._late.discard(reader)
        self.progressed()

    # Where fills take turns

    def priority(self) -> Priority:
        """A fill with readers goes first; one of a blob that was here before goes last."""
        if self.readers:
            return Priority.WAITED_FOR
        return Priority.REPAIR if self._state.was_here else Priority.PREFETCH

    def claim(self) -> Claim:
        """What the fill has to say for itself where fills take turns."""
        state, some = self._state, islice(self.readers, MANY)
        clients = frozenset(reader.client for reader in some) - {""}
        return Claim(clients, state.source.name.rpartition("/")[0], state.size - state.filled.total)

    def is_worth_trying(self) -> bool:
        """Whether a byte came lately, or a reader has not waited long yet."""
        newest = max((reader.since for reader in self.readers), default=0.0)
        return self._patience_left(newest) > 0

    # What a reader may have

    def edge(self, reader: Reader) -> int:
        """Where the bytes that a reader may have end; its own offset where it may have none."""
        state, offset = self._state, reader.offset
        if state.identity is not None:
            self._check_file()
        if state.was_discarded(offset) or self.waits_for_proof(reader):
            return offset
        return max(offset, min(self._clearance.released.run_end(offset), self._last(reader)))

    def _check_file(self) -> None:
        """Let nothing more leave where the file is another than the one that was proven."""
        state = self._state
        if state.failure is None and identity(state.place(0).file) != state.identity:
            state.failure = self._clearance.lose("the file was written since it was proven")

    def waits_for_proof(self, reader: Reader) -> bool:
        """Whether a range gets nothing before the whole is proven.

        It ends before the blob does, so that its client takes it for complete, and only the whole digest covers some
        of its bytes: the head of a payload, which a client that resumes does not hash, or a file that is none.
        """
        state = self._state
        if state.proof is not None or reader.stop >= state.size:
            return False
        return self._clearance.covered.run_end(reader.start) < reader.stop

    def _last(self, reader: Reader) -> int:
        """Where its bytes end at the latest, as things stand.

        The last byte of a range waits for the proof of the whole, as long as its client can wait, and then for all that
        can be known of it alone: no client need end with unproven bytes before that.
        """
        if self._state.proof is not None:
            return self._state.size
        if reader.stop - 1 in self._clearance.proven:
            return reader.stop
        certain = reader.stop - 1 in self._clearance.completable
        # One byte less where the last one must wait.
        return reader.stop - (self._can_wait(reader) or not certain)

    def _can_wait(self, reader: Reader) -> bool:
        """Whether a client that lacks only the end of its range can still be kept waiting for the proof.

        Not where bytes pass through memory: it would hold up the others, and the proof with them.
        """
        state = self._state
        return not state.in_order and time.monotonic() < reader.since + state.limits.proof_seconds

    # Waiting

    async def wait(self, reader: Reader) -> int:
        """Where the bytes that a reader may have now end.

        At the edge of a healthy fill that is a trickle of what is held back, so that no client times out; never the
        last byte.

        Raises:
            NotInTime: there was nothing to give for as long as a client can be kept waiting.
            GenerationEnded: it has wrong bytes, or its bytes have passed while it was held up.
            NoSpaceNow: they have passed and were not kept, and another fill would not help.
            CacheError: the fill failed.
            Hangs: the disk does not answer.
        """
        limits = self._state.limits
        while (edge := self.edge(reader)) <= reader.offset:
            self._raise_if_over(reader)
            patience = self._patience_of(reader)
            if patience <= 0:
                raise NotInTime(self._silence(reader)) from self._state.last_failure
            until_trickle = reader.last_sent_at + limits.trickle_seconds - time.monotonic()
            if until_trickle <= 0 and (trickle := self._trickle(reader)) > reader.offset:
                return trickle
            pause = until_trickle if until_trickle > 0 else limits.trickle_seconds
            if self._can_wait(reader):
                pause = min(pause, reader.since + limits.proof_seconds - time.monotonic())
            await self._woken_in(reader, min(patience, pause, workers.PATIENCE))
        return edge

    def _raise_if_over(self, reader: Reader) -> None:
        """Raise why a reader will never get its next byte, if it will not."""
        state = self._state
        if state.proof is not None and state.was_discarded(reader.offset):
            raise _passed(state)
        if state.ended:
            failure = state.failure or CacheError(f"no byte {reader.offset} of {state.size}")
            raise failure.with_traceback(None)
        if reader.is_cut:
            raise GenerationEnded("some of the bytes sent so far were wrong")
        if state.is_stuck:
            raise Hangs(workers.BLOBS)

    def _patience_left(self, since: float) -> float:
        """Seconds until a reader that waits since `since` has waited in vain for too long."""
        state = self._state
        return max(since, state.last_byte_at) + state.limits.patience - time.monotonic()

    def _patience_of(self, reader: Reader) -> float:
        """The same of one reader; that others get bytes does not help one that is held up."""
        if self.waits_for_proof(reader):
            return reader.since + self._state.limits.patience - time.monotonic()
        return self._patience_left(reader.since)

    async def _woken_in(self, reader: Reader, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[woken] = reader
        try:
            self._want(reader.offset)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken
        finally:
            del self._waiting[woken]

    def _trickle(self, reader: Reader) -> int:
        state = self._state
        if self.waits_for_proof(reader):
            return reader.offset
        return min(
            state.filled.run_end(reader.offset),
            reader.offset + state.limits.trickle_bytes,
            state.size - 1,
            self._last(reader),
        )

    def _silence(self, reader: Reader) -> str:
        state = self._state
        why = f": {state.last_failure}" if state.last_failure is not None else ""
        if self.waits_for_proof(reader):
            waited = f"{state.limits.patience:.0f} s"
            return f"{state.source.name} was not proven in {waited}, and this part of it waits for that{why}"
        return f"nothing from {state.source.name} for {state.limits.patience:.0f} s{why}"

    def waited_for(self) -> list[int]:
        """The offsets that readers wait for, in order."""
        return sorted({reader.offset for reader in self._waiting.values()})

    def notify(self) -> None:
        """Wake the readers that can go on."""
        over = self._state.ended or self._state.proof is not None
        for woken, reader in self._waiting.items():
            if (over or reader.is_cut or self.edge(reader) > reader.offset) and not woken.done():
                woken.set_result(None)

    def cut(self, start: int, stop: int) -> None:
        """[start, stop) was wrong: readers that were given some of it must not go on."""
        for reader in list(self.readers):
            if reader.start < stop and start < reader.reach:
                reader.cut()

    # Passing through a spool

    def progressed(self) -> None:
        """A reader went on, or left."""
        self._progress.set()

    @property
    def _needing(self) -> list[Reader]:
        """Those whose bytes must not be pushed out. The proof that some wait for comes only when all has passed."""
        return [r for r in self.readers if r not in self._late and not self.waits_for_proof(r)]

    def _needed_from(self) -> int:
        """The first byte in passing that is still needed: to be hashed, or by a reader."""
        state, hashed = self._state, self._clearance.hashed
        top = state.filled.run_end(hashed)
        readers = (r.offset for r in self._needing if r.offset < top)
        return min(map(state.not_on_disk, [hashed, *readers]))

    async def wait_until_unneeded(self, offset: int) -> None:
        """Return when bytes before `offset` are needed no more; a reader that holds up others for too long is cut."""
        while self._needed_from() < offset:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._state.limits.lag_seconds):
                    await self._passed(offset)
                    return
            if self._waiting:
                self._cut_laggards(offset)

    async def _passed(self, offset: int) -> None:
        while self._needed_from() < offset:
            self._progress.clear()
            await self._progress.wait()

    def _cut_laggards(self, offset: int) -> None:
        waiting = set(self._waiting.values())
        for reader in self._needing:
            if reader not in waiting and reader.offset < offset:
                self._late.add(reader)
                reader.cut()


def _passed(state: FillState) -> CacheError:
    """The error for a reader whose next bytes passed while it was held up for the proof, and were not kept.

    Where the proof told the head, it is one that begins anew: the next fill releases the head at once.
    """
    if state.proof is not None and state.proof.head is not None:
        return GenerationEnded("the bytes have passed")
    return NoSpaceNow(f"a part of {state.source.name} cannot be had: there is no room to keep it")
