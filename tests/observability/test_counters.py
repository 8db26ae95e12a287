"""Counters count, and their series are bounded whatever clients and upstream make up."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.cache.verifier import VerifyOutcome
from omaha_mirror.catalog import Reason
from omaha_mirror.observability.counters import ERRORS, REFUSALS, Metrics, UpstreamError
from omaha_mirror.omaha import EventRequest
from omaha_mirror.policy.decide import Decision
from omaha_mirror.web.errors import TABLE, BadRequest, reply_to
from tests.observability.exposed import series, value

SERIES = 500
"""More than a fleet of sound machines ever makes, and no more however hostile it is."""

numbers = st.none() | st.integers(-(2**40), 2**40) | st.integers(-1, 3100)
reports = st.builds(EventRequest, eventtype=numbers, eventresult=numbers, errorcode=numbers)
decisions = st.builds(Decision, st.sampled_from(Reason))


@given(st.lists(reports), st.lists(decisions), st.lists(st.text()))
def test_nothing_made_up_becomes_a_series(
    told: list[EventRequest], decided: list[Decision], errors: list[str]
) -> None:
    metrics = _METRICS
    for report in told:
        metrics.reported(report)
    for decision in decided:
        metrics.decided(decision)
    for error in errors:
        metrics.refused(error)
        metrics.failed(error)
    names = {name for name, _ in series(metrics)}
    assert len(series(metrics)) < SERIES
    assert names <= {metric.name for metric in metrics.declared} | _PROCESS


_METRICS = Metrics()
"""One for all examples, so that what they make adds up."""
_PROCESS = {
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}


@given(st.integers(-(2**40), 2**40) | st.integers(1990, 3010))
def test_every_error_code_has_a_name_of_its_own_or_is_unknown(code: int) -> None:
    metrics = Metrics()
    metrics.reported(EventRequest(eventtype=3, eventresult=0, errorcode=code))
    assert value(metrics, "machine_errors_total", error="other") is None


def test_events_and_their_errors_are_counted_by_name() -> None:
    metrics = Metrics()
    # 10 with the flag that every machine behind a mirror sets; 2404 is an HTTP status of the update server.
    for code in (268435466, 10, 2404, 0, None):
        metrics.reported(EventRequest(eventtype=3, eventresult=0, errorcode=code))
    metrics.reported(EventRequest(eventtype=77, eventresult=1))
    assert value(metrics, "events_total", event="update_complete", result="error") == 5
    assert value(metrics, "events_total", event="other", result="success") == 1
    assert value(metrics, "machine_errors_total", error="payload-hash-mismatch-error") == 2
    assert value(metrics, "machine_errors_total", error="http-4xx") == 1
    assert sum(v for (name, _), v in series(metrics).items() if "machine_errors" in name) == 3


def test_answers_are_counted_by_decision_and_reason() -> None:
    metrics = Metrics()
    metrics.decided(Decision(Reason.HELD))
    metrics.decided(Decision(Reason.HELD))
    metrics.pinged()
    assert value(metrics, "checks_total", decision="noupdate", reason="held") == 2
    assert value(metrics, "checks_total", decision="offered", reason="held") is None
    assert value(metrics, "pings_total") == 1


def test_packages_are_counted_with_their_bytes() -> None:
    metrics = Metrics()
    metrics.served(1000, "miss")
    metrics.served(700, "hit")
    metrics.served(1000, "hit")
    metrics.sent("hit", whole=False)
    metrics.sent("hit", whole=True)
    assert value(metrics, "packages_sent_total", cache="hit", outcome="cut") == 1
    assert value(metrics, "packages_sent_total", cache="hit", outcome="whole") == 1
    assert value(metrics, "served_bytes_total", cache="hit") == 1700
    assert value(metrics, "served_bytes_total", cache="miss") == 1000


def test_what_the_cache_tells_is_counted() -> None:
    metrics = Metrics()
    for outcome in events.Outcome:
        metrics.happened(events.FillEnded("k", "u", 10, 1.0, outcome, ""))
    metrics.happened(events.Corrupted("k", "bits"))
    metrics.happened(events.Uncached("k", "u", "full"))
    metrics.happened(events.Evicted("k", 5))
    metrics.happened(events.Trouble("k", "u", 0, "dropped", 1.0))
    metrics.happened(events.Opened("k", "hit"))
    metrics.happened(events.Repaired("k", "u", 100, 150, leaked=False))
    assert value(metrics, "mended_bytes_total") == 50
    assert value(metrics, "verification_failures_total", found="signature") == 1
    assert value(metrics, "fetched_bytes_total") == 10 * len(events.Outcome)
    for outcome in events.Outcome:
        assert value(metrics, "fills_total", outcome=outcome) == 1
    assert value(metrics, "verification_failures_total", found="fill") == 1
    assert value(metrics, "verification_failures_total", found="scrub") == 1
    assert value(metrics, "passed_through_total") == 1
    assert value(metrics, "evicted_bytes_total") == 5
    assert value(metrics, "upstream_errors_total", kind="package") == 1


def test_a_scrub_leaves_its_time_and_what_came_of_it() -> None:
    metrics = Metrics()
    assert value(metrics, "scrubbed_timestamp_seconds") == 0
    metrics.verified(VerifyResult("k", 10, VerifyOutcome.WRONG, "bits"), 1_700_000_000.5)
    assert value(metrics, "verified_blobs_total", outcome="wrong") == 1
    assert value(metrics, "scrubbed_timestamp_seconds") == 1_700_000_000.5


def test_trouble_that_alerts_watch_is_told_from_the_start() -> None:
    """`increase()` does not see a count that begins at one."""
    metrics = Metrics()
    for found in ("fill", "scrub"):
        assert value(metrics, "verification_failures_total", found=found) == 0
    for kind in get_args(UpstreamError):
        metrics.upstream_failed(kind)
        assert value(metrics, "upstream_errors_total", kind=kind) == 1


def test_every_kind_of_error_has_a_place() -> None:
    labels = {reply.label for _, reply in TABLE} | {reply_to(LookupError()).label}
    assert labels | {*REFUSALS} == {*ERRORS}
    assert reply_to(BadRequest("no")).label in REFUSALS
