"""How a fill ends without proof: why, and what becomes of what it has."""

from __future__ import annotations

import asyncio
import contextlib

from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.errors import (
    CacheError,
    DigestMismatch,
    GenerationEnded,
    Lost,
    Stopping,
    Untrusted,
)
from omaha_mirror.cache.store import Draft
from omaha_mirror.workers import BLOBS


def failure_of(error: BaseException) -> CacheError:
    """What its readers are told."""
    match error:
        case CacheError():
            return error
        case asyncio.CancelledError():
            return Stopping("the fill was stopped")
        case OSError():
            return CacheError(f"the cache directory failed: {error}")
        case _:
            return CacheError(f"a defect: {error!r}")


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
        BLOBS.submit(draft.close)
    else:
        draft.close()


def retrieve(task: asyncio.Task[Proof]) -> None:
    """A fill's failure is told to its readers and the hook; nobody need await the task."""
    if not task.cancelled():
        task.exception()
