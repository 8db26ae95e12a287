"""How a fill went, as it is told."""

from __future__ import annotations

from collections.abc import Iterable

from omaha_mirror.cache import events
from omaha_mirror.cache.contents import Progress
from omaha_mirror.cache.errors import GenerationEnded, Lost, Untrusted
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill import Fill


def progress(fills: Iterable[Fill], scheduler: FetchScheduler) -> list[Progress]:
    """Of the fills under way, and in the queue."""
    places = scheduler.positions()
    return [_progress(fill, places.get(fill, 0)) for fill in fills if fill.mends or not fill.checks]


def _progress(fill: Fill, queued: int) -> Progress:
    return Progress(
        fill.expected.key,
        fill.source.name,
        fill.size,
        fill.filled.total,
        fill.rate.per_second(),
        len(fill.followers),
        queued,
    )


def end(fill: Fill, error: BaseException | None, seconds: float) -> events.Event | None:
    """How it ended, and with what; None where it is told otherwise, or a blob was only read again, and stays what it is."""
    key, reason = fill.expected.key, str(error or "")
    if isinstance(error, Lost):
        return None
    if fill.checks and not fill.mends and not isinstance(error, GenerationEnded):
        return events.Verified(key, fill.size, seconds) if error is None else None
    outcome = _outcome(error)
    if outcome is events.Outcome.FAILED:
        reason = str(fill.failure)
    if outcome is events.Outcome.STOPPED:
        reason = ""
    return events.FillEnded(key, fill.source.name, fill.fetched, seconds, outcome, reason)


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
