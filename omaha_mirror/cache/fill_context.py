"""What a fill uses of the cache that it belongs to. One for all its fills; it has no state of its own."""

from __future__ import annotations

from dataclasses import dataclass

from omaha_mirror.cache import events
from omaha_mirror.cache.drafts import Drafts
from omaha_mirror.cache.failures import Failures
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.heads import Heads
from omaha_mirror.cache.index import Index


@dataclass(frozen=True, slots=True)
class FillContext:
    """Of one cache.

    Attributes:
        scheduler: what it shares with the other fills.
        hook: called with what happens.
        drafts: gives drafts, and makes room for them.
        failures: remembers what turned out wrong.
        heads: remembers the head of a blob that is proven.
        index: the proven blobs.
    """

    scheduler: FetchScheduler
    hook: events.Hook
    drafts: Drafts
    failures: Failures
    heads: Heads
    index: Index
