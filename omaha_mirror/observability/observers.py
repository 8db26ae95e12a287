"""The observer: counts, logs and records each event with one call that never waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.cache.events import Status
from omaha_mirror.catalog import PackageFile, Reason
from omaha_mirror.catalog.follow_events import Failed, FollowEvent
from omaha_mirror.fleet import FETCHED, Transfer, facts_of
from omaha_mirror.fleet.model import Item
from omaha_mirror.observability import log_lines
from omaha_mirror.observability.counters import HTTP_ERRORS, Counters
from omaha_mirror.observability.metric_kinds import OTHER
from omaha_mirror.observability.telemetry import tell
from omaha_mirror.omaha import AppRequest, EventRequest, EventResult, EventType, describe_error
from omaha_mirror.omaha.codes import HTTP_BASE, Code
from omaha_mirror.policy.decide import Decision

ENDED = 10
"""Ended fills that are kept for the status page."""


@dataclass(frozen=True, slots=True)
class AppReport:
    """What a machine sent about one application, and the decision that it got.

    Attributes:
        app: that part of its request.
        decision: None where it did not ask for an update.
        remote: the address that it came from.
    """

    app: AppRequest
    decision: Decision | None
    remote: str


@dataclass(frozen=True, slots=True)
class TransferReport:
    """A response with bytes of a package that has ended.

    Attributes:
        file: that was asked for.
        remote: the address that asked.
        start: first byte asked for; `stop` is after the last.
        count: bytes that were sent.
        cache: how the request met the cache.
        seconds: that it took.
    """

    file: PackageFile
    remote: str
    start: int
    stop: int
    count: int
    cache: Status
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all that was asked for was sent."""
        return self.count == self.stop - self.start


@dataclass(slots=True)
class Totals:
    """Bytes since the start: fetched from upstream, and served to machines."""

    fetched: int = 0
    served: int = 0


class Observer:
    """Counts, logs and records.

    Args:
        record: takes what goes into the database of the fleet.
        clock: tells the time.

    Attributes:
        metrics: for Prometheus.
        totals: since the start.
        ended: the fills that ended last, the newest last, each with when, in seconds since the epoch.
    """

    def __init__(self, record: Callable[[Item], object], clock: Clock) -> None:
        self.metrics = Counters()
        self.totals = Totals()
        self.ended: deque[tuple[float, events.FillEnded]] = deque(maxlen=ENDED)
        self._record = record
        self._clock = clock

    # What machines ask

    def on_app(self, report: AppReport) -> None:
        """The answer about one application of a request is ready."""
        count, app, decision = self.metrics, report.app, report.decision
        release = decision.release if decision is not None else None
        for item in facts_of(
            app,
            time=self._clock.time(),
            address=report.remote,
            reason=decision.reason.value if decision is not None else "",
            offered=release.version if release is not None else None,
            detail=decision.words if decision is not None else "",
        ):
            self._record(item)
        if decision is not None:
            count.checks.add("offered" if release is not None else "noupdate", decision.reason)
        if app.ping is not None:
            count.pings.add()
        for event in app.events:
            self._count_event(event)

    def _count_event(self, event: EventRequest) -> None:
        self.metrics.events.add(*_names(event.eventtype, event.eventresult))
        if event.errorcode:
            self.metrics.errors.add(_error(event.errorcode))

    def on_bad_request(self, error: str) -> None:
        """A request could not be answered as it was; `error` is one of `REFUSALS`."""
        self.metrics.refused.add(error)

    # Packages

    def on_bytes(self, count: int, cache: Status) -> None:
        """Bytes of a package went to a machine."""
        self.totals.served += count
        self.metrics.served.add(cache, count=count)

    def on_transfer_end(self, report: TransferReport) -> None:
        """An answer with bytes of a package ended."""
        self.metrics.sent.add(report.cache, "whole" if report.whole else "cut")
        self._record_transfer(report.file.url, report.count, report.seconds, report.cache)

    def on_package_error(self, error: str) -> None:
        """A package could not be had; `error` is one of `ERRORS`."""
        self.metrics.failed.add(error)

    def _record_transfer(self, url: str, count: int, seconds: float, status: str) -> None:
        folder, _, name = url.rpartition("/")
        self._record(
            Transfer(
                time=self._clock.time(),
                release=folder.rpartition("/")[2],
                name=name,
                bytes=count,
                seconds=seconds,
                cache_status=status,
            )
        )

    # The cache

    def on_cache_event(self, event: events.Event) -> None:
        """Something happened in the cache. Never raises."""
        if not isinstance(
            event, events.Opened
        ):  # each request has one, and is counted when it ends
            tell(self._on_cache_event, event)

    def _on_cache_event(self, event: events.Event) -> None:
        log_lines.log_event(event)
        count = self.metrics
        match event:
            case events.Trouble():
                count.upstream.add("package")
            case events.FillEnded():
                self._on_fill_end(event)
            case events.Repaired():
                count.mended.add(count=event.stop - event.start)
            case events.Uncached():
                count.not_kept.add()
            case events.Evicted():
                count.evicted.add(count=event.size)
            case events.Corrupted():
                count.wrong.add("scrub")
            case _:
                pass

    def _on_fill_end(self, event: events.FillEnded) -> None:
        self.metrics.fetched.add(count=event.fetched)
        self.metrics.fills.add(event.outcome)
        if event.outcome is events.Outcome.WRONG:
            self.metrics.wrong.add("fill")
        if event.outcome is events.Outcome.UNTRUSTED:
            self.metrics.wrong.add("signature")
        self.totals.fetched += event.fetched
        self.ended.append((self._clock.time(), event))
        self._record_transfer(event.source, event.fetched, event.seconds, FETCHED)

    def on_scrubbed(self, result: VerifyResult) -> None:
        """The scrubber read a blob again."""
        log_lines.log_verify_result(result)
        self.metrics.verified.add(result.outcome)
        self.metrics.scrubbed = self._clock.time()

    # Upstream

    def on_follow_event(self, event: FollowEvent) -> None:
        """Something happened while a track is followed."""
        if isinstance(event, Failed):
            self.on_upstream_failure(event.reason)

    def on_upstream_failure(self, reason: Reason) -> None:
        """Upstream did not answer (UNREACHABLE), or its answer cannot be used (REFUSED)."""
        self.metrics.upstream.add("refused" if reason is Reason.REFUSED else "omaha")


@lru_cache(256)
def _names(eventtype: int | None, eventresult: int | None) -> tuple[str, str]:
    return _name(EventType.find(eventtype)), _name(EventResult.find(eventresult))


def _name(code: Code | None) -> str:
    return code.name.lower() if code is not None else OTHER


def _error(code: int) -> str:
    """The name of an error, without its flag bits; HTTP statuses by their hundreds."""
    error = describe_error(code)
    if error.name.startswith("http-"):
        return HTTP_ERRORS[(error.base - HTTP_BASE) // 100]
    return error.name
