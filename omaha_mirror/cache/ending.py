"""How a fill ends without proof: why, and what becomes of what it has."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from omaha_mirror.aio.tasks import submit
from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache.errors import (
    CacheError,
    Defect,
    DigestMismatch,
    GenerationEnded,
    Lost,
    Stopping,
    Untrusted,
)
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


def leave(draft: Draft, failure: CacheError | None, *, leaked: bool, is_empty: bool) -> None:
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
