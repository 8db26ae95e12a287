"""How a fill ends: why, what becomes of the bytes that it has, and what is reported of it."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from omaha_mirror.aio.tasks import submit
from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache import events
from omaha_mirror.cache.errors import (
    CacheError,
    Defect,
    DigestMismatch,
    GenerationEnded,
    Lost,
    Stopping,
    Untrusted,
)
from omaha_mirror.cache.fill_state import FillState
from omaha_mirror.cache.store import Draft

LOG = structlog.get_logger(__name__)


def failure_of(error: BaseException) -> CacheError:
    """What its readers are told; the traceback of what nobody expects goes to the log."""
    match error:
        case CacheError():
            return error
        case asyncio.CancelledError():
            return Stopping("the fill was stopped")
        case OSError():
            return CacheError(f"the cache directory failed: {error}")
        case _:
            LOG.error("a defect ended a fill", exc_info=error)
            return Defect()


def put_away(draft: Draft, failure: CacheError | None, *, leaked: bool, is_empty: bool) -> None:
    """What the disk refuses here costs bytes that are fetched again, and hides no failure.

    Args:
        draft: the blob.
        failure: why its fill ended.
        leaked: whether bytes of it left that may be wrong.
        is_empty: whether there are none.
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
    """Close it; where a thread still waits for the disk with it, behind that one."""
    if BLOBS.hang_on(draft):
        submit(draft.close)
    else:
        draft.close()


def event_of(state: FillState, error: BaseException | None, seconds: float) -> events.Event | None:
    """What is reported of the end of a fill; None where its bytes were lost, or a verification ended without a result."""
    key, reason = state.expected.key, str(error or "")
    if isinstance(error, Lost):
        return None
    if state.checks and not state.repairs and not isinstance(error, GenerationEnded):
        return events.Verified(key, state.size, seconds) if error is None else None
    outcome = _outcome(error)
    if outcome is events.Outcome.FAILED:
        reason = str(state.failure)
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
