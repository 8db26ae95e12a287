"""Where everything that happens is counted, logged and recorded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.follow_events import Failed, FollowEvent
from omaha_mirror.observability import log_lines
from omaha_mirror.observability.counters import Metrics
from omaha_mirror.observability.fleet_feed import FleetFeed
from omaha_mirror.observability.reports import AppReport, TransferReport

ENDED = 10
"""Fills whose end is remembered, for people."""


@dataclass(slots=True)
class Totals:
    """What went over the line and to the machines since the start, in bytes."""

    fetched: int = 0
    served: int = 0


class Observer:
    """Told of everything; waits for nothing.

    Args:
        fleet_feed: to the database of the fleet.
        clock: tells the time.

    Attributes:
        metrics: for Prometheus.
        totals: since the start.
        ended: the fills that ended last, the newest last, each with when, in seconds since the epoch.
    """

    def __init__(self, fleet_feed: FleetFeed, clock: Clock) -> None:
        self.metrics = Metrics()
        self.totals = Totals()
        self.ended: deque[tuple[float, events.FillEnded]] = deque(maxlen=ENDED)
        self._fleet_feed = fleet_feed
        self._clock = clock

    def on_app(self, heard: AppReport) -> None:
        """A machine said something, and was told something."""
        self._fleet_feed.on_app(heard)
        if heard.decision is not None:
            self.metrics.decided(heard.decision)
        if heard.app.ping is not None:
            self.metrics.pinged()
        for event in heard.app.events:
            self.metrics.reported(event)

    def on_bytes(self, count: int, cache: events.Status) -> None:
        """Bytes of a package went to a machine."""
        self.totals.served += count
        self.metrics.served(count, cache)

    def on_transfer_end(self, sent: TransferReport) -> None:
        """An answer with bytes of a package ended."""
        self.metrics.sent(sent.cache, whole=sent.whole)
        self._fleet_feed.on_transfer_end(sent)

    def on_package_error(self, error: str) -> None:
        """A package could not be had; `error` is one of `ERRORS`."""
        self.metrics.failed(error)

    def on_bad_request(self, error: str) -> None:
        """A request was no good; `error` is one of `REFUSALS`."""
        self.metrics.refused(error)

    def on_cache_event(self, event: events.Event) -> None:
        """The cache told something."""
        log_lines.log_event(event)
        self.metrics.happened(event)
        if isinstance(event, events.FillEnded):
            self.totals.fetched += event.fetched
            self.ended.append((self._clock.time(), event))
            self._fleet_feed.on_fill_end(event)

    def on_scrubbed(self, verdict: VerifyResult) -> None:
        """The scrubber read a blob again."""
        log_lines.log_verify_result(verdict)
        self.metrics.verified(verdict, self._clock.time())

    def on_follow_event(self, event: FollowEvent) -> None:
        """Something happened while a track is followed."""
        if isinstance(event, Failed):
            self.on_upstream_failure(event.reason)

    def on_upstream_failure(self, reason: Reason) -> None:
        """Upstream cannot say (UNREACHABLE), or says what cannot be used (REFUSED)."""
        self.metrics.upstream_failed("refused" if reason is Reason.REFUSED else "omaha")
