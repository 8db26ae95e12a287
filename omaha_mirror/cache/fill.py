"""A growing blob: fetched once, by its own tasks, for all its readers.

Phases, one way: made (queued for its turn), begun (the draft is open), proven or failed, ended. `run`, called once by the cache
in a task of its own, goes through all of them; readers may be attached in each, and use the methods of `Readable` alone.
Cursors write the bytes that arrive; the verification task judges them; the checkpoint task makes them survive a power cut. A
reader neither drives a fill nor stops it. `Fill` alone knows all parts; each part sees `FillState`, not the fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack

import structlog

from omaha_mirror.aio.tasks import finish, in_worker, stop, submit
from omaha_mirror.aio.workers import BLOBS, Hangs
from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.cursors import Cursors
from omaha_mirror.cache.errors import (
    CacheError,
    Defect,
    DigestMismatch,
    GenerationEnded,
    Lost,
    Stopping,
    Unreadable,
    Untrusted,
    is_unreadable,
)
from omaha_mirror.cache.fill_context import FillContext
from omaha_mirror.cache.fill_state import Clearance, FillState
from omaha_mirror.cache.fill_verification import Verification
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.inventory import Progress
from omaha_mirror.cache.prover import Prover
from omaha_mirror.cache.reader import Reader
from omaha_mirror.cache.store import Draft, Place
from omaha_mirror.cache.waiters import Waiters
from omaha_mirror.cache.write_behind import Checkpoint

LOG = structlog.get_logger(__name__)


class Fill:
    """One growing blob. Made by the cache, which runs `run()` in a task of its own.

    Args:
        state: of the blob.
        prover: decides which bytes may be sent.
        context: the parts of the cache that it uses.
        pause: seconds to wait before it begins.

    Attributes:
        state: the same.
        waiters: its readers.
        must_finish: whether it goes on to the proof without readers.
    """

    def __init__(
        self, state: FillState, prover: Prover, context: FillContext, pause: float = 0.0
    ) -> None:
        self.state = state
        self.must_finish = state.is_recheck
        self._context = context
        self._pause = pause
        self._has_place = False
        self._changed = asyncio.Event()
        self._clearance = Clearance()
        self.waiters = Waiters(state, self._clearance, self._want)
        self._verification = Verification(
            state, self._clearance, prover, self.waiters, context, self._changed.set
        )
        self._cursors = Cursors(
            state,
            self._clearance,
            self.waiters,
            prover.needs,
            context,
            self._written,
            self._changed,
        )
        self._checkpoint = Checkpoint(state.limits.record_seconds, state.limits.record_bytes)
        # The calls that readers make most often; a method in between would cost each of them a call.
        self.edge = self.waiters.edge
        self.wait = self.waiters.wait

    def _want(self, offset: int) -> None:
        self._cursors.want(offset)

    def _written(self, start: int, stop: int) -> None:
        self.state.written(start, stop)
        self._checkpoint.note(stop - start)
        self._verification.grown.set()
        self._cursors.look_again()

    # For readers; see `Readable`

    def attach(self, reader: Reader) -> None:
        """Count a reader in."""
        self.waiters.add(reader)
        self._verification.attached(reader.start, reader.offset)

    def detach(self, reader: Reader) -> None:
        """Count a reader out; the last one of an ended fill closes the file.

        A client that got nothing because its range waits for the proof will ask again, and so will one that got wrong bytes:
        the fill goes on without readers. What made right bytes look wrong, a wrong manifest for one, is found no other way.
        """
        if reader.is_cut or self.waiters.waits_for_proof(reader):
            self.must_finish = True
        self.waiters.remove(reader)
        self._cursors.look_again()
        self._let_go()

    def place(self, offset: int) -> Place:
        """See `Readable.place`."""
        return self.state.place(offset)

    async def before_send(self, start: int, stop: int) -> None:
        """See `Readable.before_send`."""
        self.sent()
        if self.state.proof is None:
            await self._verification.before_send(start, stop)

    def sent(self) -> None:
        """See `Readable.sent`; also before bytes are sent."""
        state = self.state
        state.leaked = state.leaked or (state.proof is None and not state.is_recheck)
        self.waiters.progressed()

    def hangs(self, _error: Hangs, reader: Reader) -> bool:
        """See `Readable.hangs`."""
        return self.state.proof is not None or self._clearance.is_right(reader.start, reader.offset)

    def unreadable(self, reason: str) -> None:
        """See `Readable.unreadable`. Raises CacheError where that ends the fill, and not only a blob that it proved."""
        state = self.state
        if not state.ended and (state.is_recheck or state.proof is not None):
            self._verification.lose(reason)
        elif state.identity is None or not state.ended:
            raise CacheError(reason)
        elif state.failure is None:
            state.failure = self._verification.lose(reason)
            self._context.index.file_unreadable(state.expected.key, reason, state.identity)

    # For the cache

    def joinable(self, offset: int) -> bool:
        """Whether a reader that begins at `offset` can still have its first bytes."""
        state = self.state
        return not state.ended and not state.was_discarded(offset) and not state.is_stuck

    def progress(self, queued: int) -> Progress:
        """The progress of the fill; `queued` is its place in the queue."""
        state, rate = self.state, self.state.rate.per_second()
        key, name, filled = state.expected.key, state.source.name, state.filled.total
        return Progress(key, name, state.size, filled, rate, len(self.waiters.readers), queued)

    async def run(self) -> tuple[str, Proof]:
        """Fetch, prove and commit; gives the key of the proven blob, "" when it was not kept, and its proof.

        Raises:
            CacheError: why the fill failed; its readers get the same.
            OSError: the store failed.
        """
        state = self.state
        try:
            async with AsyncExitStack() as stack:
                if not state.is_recheck:
                    await self._take_place(stack)
                await finish(self._begin())
                proof = state.proof = await self._fetch_and_prove(stack)
                self._context.heads.proven(state.expected, proof)
                self._clearance.released = Intervals([(0, state.size)])
                self.waiters.notify()
                named = await in_worker(state.draft.commit, proof)
                state.identity = state.draft.identity
                return named, proof
        except BaseException as error:
            state.failure = failure_of(error)
            if isinstance(state.failure, Unreadable):
                self._context.index.leave_disk_alone(state.expected.key)
            if isinstance(state.failure, Defect):
                raise state.failure from error
            raise
        finally:
            await self._put_away()

    async def _take_place(self, stack: AsyncExitStack) -> None:
        """Wait until the fill may fetch; it keeps its place until the end of `stack`."""
        if self._pause:
            await asyncio.sleep(self._pause)
            self.state.last_byte_at = time.monotonic()
        waiters, scheduler = self.waiters, self._context.scheduler
        await stack.enter_async_context(scheduler.fill(self.state, waiters.priority, waiters.claim))
        self._has_place = True

    async def _begin(self) -> None:
        state = self.state
        draft = state.current_draft = await self._context.open_draft(state)
        state.filled, state.generation = draft.filled, draft.validator
        state.leaked = draft.leaked if state.is_recheck else bool(draft.filled)
        self._verification.begin(draft)
        if not state.is_recheck:
            for start, stop_at in draft.filled:
                state.nodes.received(draft.validator or {}, start, stop_at)
            self._verification.announce()

    async def _fetch_and_prove(self, stack: AsyncExitStack) -> Proof:
        state = self.state
        verifying = asyncio.create_task(self._verification.run())
        verifying.add_done_callback(lambda _: self._changed.set())
        recording = asyncio.create_task(self._checkpoint.run(self._record))
        self._verification.grown.set()
        try:
            while not verifying.done():
                if not self._has_place and state.filled.total < state.size:
                    await self._take_place(stack)
                self._cursors.replan()
                await self._changed.wait()
                self._changed.clear()
                self._cursors.reap()
            return await verifying
        finally:
            try:
                await self._cursors.stop()
            finally:  # a second cancellation must not leave them behind
                await stop((verifying, recording))

    def _record(self) -> None:
        self.state.draft.record()  # read anew each time: on overflow the fill gets another draft

    async def _put_away(self) -> None:
        """Put the draft away as the end of the fill demands, then wake the readers."""
        state = self.state
        if isinstance(state.failure, Untrusted):  # no byte was wrong
            state.leaked = False
        if isinstance(state.failure, GenerationEnded | Lost):
            self._context.failures.ended(
                state.expected.key,
                state.failure,
                leaked=state.leaked,
                mixed=state.nodes.mixed,
                checked=state.is_recheck,
            )
            self._verification.end(state.failure)
        elif self._verification.leaves_doubt():
            self._context.failures.mark_resume_unsafe(state.expected.key)
        try:
            if state.current_draft is not None and state.proof is None:
                how = {"leaked": state.leaked, "is_empty": not state.filled}
                await in_worker(put_away, state.current_draft, state.failure, **how)
        finally:
            if state.is_recheck and isinstance(state.failure, GenerationEnded):
                state.failure = Lost(str(state.failure))
            state.failure = state.failure or self._clearance.lost
            state.ended = True
            self.waiters.notify()
            self._let_go()

    def _let_go(self) -> None:
        state = self.state
        if state.ended and not self.waiters.readers and state.current_draft is not None:
            close(state.current_draft)


def failure_of(error: BaseException) -> CacheError:
    """The error for the readers of a fill; an unexpected one is logged with its traceback."""
    match error:
        case CacheError():
            return error
        case asyncio.CancelledError():
            return Stopping("the fill was stopped")
        case OSError():
            kind = Unreadable if is_unreadable(error) else CacheError
            return kind(f"the cache directory failed: {error}")
        case _:
            LOG.error("a defect ended a fill", exc_info=error)
            return Defect()


def put_away(draft: Draft, failure: CacheError | None, *, leaked: bool, is_empty: bool) -> None:
    """Reject, discard or record the draft of a fill that failed. An error of the disk costs bytes that are fetched again.

    Args:
        draft: of the fill.
        failure: why the fill ended.
        leaked: whether bytes were sent that may be wrong.
        is_empty: whether the draft has no bytes.
    """
    with contextlib.suppress(OSError):
        if isinstance(failure, GenerationEnded | Lost):
            aside = isinstance(failure, DigestMismatch | Untrusted | Lost)
            draft.reject(aside=aside, leaked=leaked)
        elif is_empty:
            draft.discard()
        else:
            draft.record()


def close(draft: Draft) -> None:
    """Close a draft; where a thread still waits for the disk with it, after that."""
    if BLOBS.hang_on(draft):
        submit(draft.close)
    else:
        draft.close()


def event_of(state: FillState, error: BaseException | None, seconds: float) -> events.Event | None:
    """The event for the end of a fill; None where its bytes were lost, or a recheck ended without a result."""
    key, reason = state.expected.key, str(error or "")
    if isinstance(error, Lost):
        return None
    if state.is_recheck and not state.repairs and not isinstance(error, GenerationEnded):
        return events.Verified(key, state.size, seconds) if error is None else None
    outcome = _outcome(error)
    if outcome is events.Outcome.FAILED:
        reason = str(state.failure or Defect())
    if outcome is events.Outcome.STOPPED:
        reason = ""
    return events.FillEnded(key, state.source.name, state.fetched, seconds, outcome, reason)


def _outcome(error: BaseException | None) -> events.Outcome:
    match error:
        case None:
            return events.Outcome.PROVEN
        case Untrusted():
            return events.Outcome.UNTRUSTED
        case GenerationEnded():
            return events.Outcome.WRONG
        case Exception():
            return events.Outcome.FAILED
        case _:
            return events.Outcome.STOPPED
