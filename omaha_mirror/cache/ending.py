"""How a growing blob is left when its fill ended without proof."""

from __future__ import annotations

import contextlib

from omaha_mirror.cache.errors import CacheError, DigestMismatch, GenerationEnded, Untrusted
from omaha_mirror.cache.store import Draft


def leave(draft: Draft, failure: CacheError | None, *, leaked: bool, is_empty: bool) -> None:
    """What the disk refuses here costs bytes that are fetched again, and hides no failure.

    Args:
        draft: the blob.
        failure: why its fill ended.
        leaked: whether bytes of it left that may be wrong.
        is_empty: whether there are none.
    """
    with contextlib.suppress(OSError):
        if isinstance(failure, GenerationEnded):
            draft.reject(aside=isinstance(failure, DigestMismatch | Untrusted), leaked=leaked)
        elif is_empty:
            draft.discard()
        else:
            draft.record()
