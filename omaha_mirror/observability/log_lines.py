"""The log lines of cache events."""

from __future__ import annotations

import structlog

from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.cache.scrub import VerifyOutcome

LOG = structlog.get_logger(__name__)


def log_event(event: events.Event) -> None:
    """Log an event, if operators need to know of it."""
    match event:
        case events.FillStarted() | events.Trouble() | events.Repaired() | events.FillEnded():
            _log_fill(event)
        case events.Uncached():
            LOG.error("served without caching", source=event.source, reason=event.reason)
        case events.Corrupted():
            LOG.error(
                "a cached file is corrupted; it is not served any more",
                key=event.key,
                reason=event.reason,
            )
        case events.Verified():
            LOG.info(
                "verified on first use",
                key=event.key,
                size=event.size,
                seconds=round(event.seconds, 3),
            )
        case events.Evicted():
            LOG.info("evicted", key=event.key, size=event.size)
        case _:
            pass


def _log_fill(
    event: events.FillStarted | events.Trouble | events.Repaired | events.FillEnded,
) -> None:
    match event:
        case events.FillStarted():
            LOG.info("fill started", source=event.source, size=event.size, resumed=event.resumed)
        case events.Trouble():
            LOG.warning(
                "upstream trouble",
                source=event.source,
                position=event.position,
                reason=event.reason,
                again_in=round(event.pause, 2),
            )
        case events.Repaired():
            LOG.warning(
                "wrong bytes, fetched again",
                source=event.source,
                start=event.start,
                stop=event.stop,
                some_were_sent=event.leaked,
            )
        case events.FillEnded():
            say = LOG.info if event.outcome is events.Outcome.PROVEN else LOG.warning
            say(
                "fill ended",
                source=event.source,
                outcome=event.outcome.value,
                fetched=event.fetched,
                seconds=round(event.seconds, 3),
                reason=event.reason,
            )


def log_verify_result(result: VerifyResult) -> None:
    """Log a blob that cannot be verified; one that is wrong is an event of the cache."""
    if result.outcome is VerifyOutcome.UNKNOWN:
        LOG.warning("cannot verify", key=result.key, reason=result.reason)
