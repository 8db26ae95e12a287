"""The readers of one growing blob: which bytes each may have now, and how long it can wait.

A reader is added, calls `edge` and `wait` as often as it likes, and is removed. `notify` and `progressed` wake those that can go
on; none polls. This module alone removes readers (`Fill` adds them), and owns the waits; it changes nothing of the fill.
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
"""Readers whose names are looked at where fills take turns."""


class Waiters:
    """The readers of one fill.

    Args:
        state: of the fill.
        clearance: what may be sent.
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
        """A fill with readers goes first; one of a blob that was proven before goes last."""
        if self.readers:
            return Priority.WAITED_FOR
        return Priority.REPAIR if self._state.was_here else Priority.PREFETCH

    def claim(self) -> Claim:
        """What decides when it is the fill's turn."""
        state, some = self._state, islice(self.readers, MANY)
        clients = frozenset(reader.client for reader in some) - {""}
        return Claim(clients, state.source.name.rpartition("/")[0], state.size - state.filled.total)

    def is_worth_trying(self) -> bool:
        """Whether a byte arrived lately, or a reader has not waited long yet."""
        newest = max((reader.since for reader in self.readers), default=0.0)
        return self._patience_left(newest) > 0

    # What a reader may have

    def edge(self, reader: Reader) -> int:
        """The end of the bytes that a reader may have; its own offset where it may have none."""
        state, offset = self._state, reader.offset
        if state.identity is not None:
            self._check_file()
        if state.was_discarded(offset) or self.waits_for_proof(reader):
            return offset
        return max(offset, min(self._clearance.released.run_end(offset), self._last(reader)))

    def _check_file(self) -> None:
        """Release nothing any more where the file is another than the one that was proven."""
        state = self._state
        if state.failure is None and identity(state.place(0).file) != state.identity:
            state.failure = self._clearance.lose("the file was written since it was proven")

    def waits_for_proof(self, reader: Reader) -> bool:
        """Whether a range gets no byte before the blob is proven.

        It ends before the blob does, so that its client takes it for complete, and only the digest of the whole covers
        some of its bytes: the head of a payload, which a client that resumes does not hash, or a file that is no payload.
        """
        state = self._state
        if state.proof is not None or reader.stop >= state.size:
            return False
        return self._clearance.covered.run_end(reader.start) < reader.stop

    def _last(self, reader: Reader) -> int:
        """The end of the bytes that a range may have before the blob is proven.

        Its last byte waits for the proof, as long as its client can wait, and after that until it is completable.
        """
        if self._state.proof is not None:
            return self._state.size
        if reader.stop - 1 in self._clearance.proven:
            return reader.stop
        certain = reader.stop - 1 in self._clearance.completable
        # True counts as 1: one byte less where the last one must wait.
        return reader.stop - (self._can_wait(reader) or not certain)

    def _can_wait(self, reader: Reader) -> bool:
        """Whether the last byte of a range can still wait for the proof.

        Not where bytes pass through memory: it would delay the other readers, and the proof with them.
        """
        state = self._state
        return not state.in_order and time.monotonic() < reader.since + state.limits.proof_seconds

    # Waiting

    async def wait(self, reader: Reader) -> int:
        """Wait until a reader may have bytes; gives their end.

        Where bytes are there and held back for long, it gets a few of them, so that its client does not time out; never
        the last byte.

        Raises:
            NotInTime: no byte was released for as long as a client can wait.
            GenerationEnded: it has wrong bytes, or its bytes were discarded while it waited for the proof.
            NoSpaceNow: they were discarded, and another fill would not help.
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
        """Raise why a reader will never get its next byte, where that is so."""
        state = self._state
        if state.proof is not None and state.was_discarded(reader.offset):
            raise _discarded(state)
        if state.ended:
            failure = state.failure or CacheError(f"no byte {reader.offset} of {state.size}")
            raise failure.with_traceback(None)
        if reader.is_cut:
            raise GenerationEnded("some of the bytes sent so far were wrong")
        if state.is_stuck:
            raise Hangs(workers.BLOBS)

    def _patience_left(self, since: float) -> float:
        """Seconds until a reader that waits since `since` has waited too long without a byte."""
        state = self._state
        return max(since, state.last_byte_at) + state.limits.patience - time.monotonic()

    def _patience_of(self, reader: Reader) -> float:
        """The same of one reader; where it waits for the proof, bytes that others get do not count."""
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
        """The offsets that readers wait for, in ascending order."""
        return sorted({reader.offset for reader in self._waiting.values()})

    def notify(self) -> None:
        """Wake the readers that can go on."""
        over = self._state.ended or self._state.proof is not None
        for woken, reader in self._waiting.items():
            if (over or reader.is_cut or self.edge(reader) > reader.offset) and not woken.done():
                woken.set_result(None)

    def cut(self, start: int, stop: int) -> None:
        """End the readers that got some of [start, stop), which was wrong."""
        for reader in list(self.readers):
            if reader.start < stop and start < reader.reach:
                reader.cut()

    def cut_resumed(self) -> None:
        """End the readers whose clients have earlier bytes from elsewhere, which may be wrong."""
        for reader in list(self.readers):
            if reader.start:
                reader.cut()

    # Bytes that pass through memory

    def progressed(self) -> None:
        """Note that a reader went on, or left."""
        self._progress.set()

    @property
    def _needing(self) -> list[Reader]:
        """The readers whose bytes must be kept; not those that wait for the proof, which comes after the last byte."""
        return [r for r in self.readers if r not in self._late and not self.waits_for_proof(r)]

    def _needed_from(self) -> int:
        """The first byte in memory that is still needed: for the digest, or by a reader."""
        state, hashed = self._state, self._clearance.hashed
        top = state.filled.run_end(hashed)
        readers = (r.offset for r in self._needing if r.offset < top)
        return min(map(state.discardable, [hashed, *readers]))

    async def wait_until_unneeded(self, offset: int) -> None:
        """Return when bytes before `offset` are needed no more; a reader that delays the others for too long is cut."""
        while self._needed_from() < offset:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._state.limits.lag_seconds):
                    await self._unneeded(offset)
                    return
            if self._waiting:
                self._cut_laggards(offset)

    async def _unneeded(self, offset: int) -> None:
        while self._needed_from() < offset:
            self._progress.clear()
            await self._progress.wait()

    def _cut_laggards(self, offset: int) -> None:
        waiting = set(self._waiting.values())
        for reader in self._needing:
            if reader not in waiting and reader.offset < offset:
                self._late.add(reader)
                reader.cut()


def _discarded(state: FillState) -> CacheError:
    """The error for a reader whose next bytes were discarded while it waited for the proof.

    Where the head is known by now, the reader begins anew: the next fill releases the head at once.
    """
    if state.proof is not None and state.proof.head is not None:
        return GenerationEnded("the bytes were discarded")
    return NoSpaceNow(f"a part of {state.source.name} was discarded: there is no room to keep it")
