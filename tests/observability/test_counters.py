"""Counters count, and their series are bounded whatever clients and upstream make up."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.cache.scrub import VerifyOutcome
from omaha_mirror.catalog import PackageFile, Reason
from omaha_mirror.observability.counters import ERRORS, REFUSALS, UpstreamError
from omaha_mirror.observability.observers import AppReport, Observer, TransferReport
from omaha_mirror.omaha import AppRequest, EventRequest, PingRequest
from omaha_mirror.policy.decide import Decision
from omaha_mirror.web.errors import TABLE, BadRequest, reply_to
from tests.observability.exposed import series, value

SERIES = 500
"""More than a fleet of sound machines ever makes, and no more however hostile it is."""

HERE = "192.0.2.1"
NOW = 1_700_000_000.5


def observer() -> Observer:
    """One that records nothing."""
    return Observer(lambda _: None, Clock(wall=lambda: NOW, synchronised=lambda: True))


def transfer(count: int) -> TransferReport:
    """So many of ten bytes were sent."""
    file = PackageFile("update.gz", 10, None, None, "http://release/1.0.0/update.gz")
    return TransferReport(file, HERE, 0, 10, count, "hit", 1.0)


numbers = st.none() | st.integers(-(2**40), 2**40) | st.integers(-1, 3100)
reports = st.builds(EventRequest, eventtype=numbers, eventresult=numbers, errorcode=numbers)
decisions = st.builds(Decision, st.sampled_from(Reason))


@given(st.lists(reports), st.lists(decisions), st.lists(st.text()))
def test_nothing_made_up_becomes_a_series(
    told: list[EventRequest], decided: list[Decision], errors: list[str]
) -> None:
    watcher = _OBSERVER
    for report in told:
        watcher.on_app(AppReport(AppRequest(events=(report,)), None, HERE))
    for decision in decided:
        watcher.on_app(AppReport(AppRequest(), decision, HERE))
    for error in errors:
        watcher.on_bad_request(error)
        watcher.on_package_error(error)
    names = {name for name, _ in series(watcher.metrics)}
    assert len(series(watcher.metrics)) < SERIES
    assert names <= {metric.name for metric in watcher.metrics.declared} | _PROCESS


_OBSERVER = observer()
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
    watcher = observer()
    watcher.on_app(
        AppReport(
            AppRequest(events=(EventRequest(eventtype=3, eventresult=0, errorcode=code),)),
            None,
            HERE,
        )
    )
    assert value(watcher.metrics, "machine_errors_total", error="other") is None


def test_events_and_their_errors_are_counted_by_name() -> None:
    watcher = observer()
    # 10 with the flag that every machine behind a mirror sets; 2404 is an HTTP status of the update server.
    for code in (268435466, 10, 2404, 0, None):
        watcher.on_app(
            AppReport(
                AppRequest(events=(EventRequest(eventtype=3, eventresult=0, errorcode=code),)),
                None,
                HERE,
            )
        )
    watcher.on_app(
        AppReport(AppRequest(events=(EventRequest(eventtype=77, eventresult=1),)), None, HERE)
    )
    assert value(watcher.metrics, "events_total", event="update_complete", result="error") == 5
    assert value(watcher.metrics, "events_total", event="other", result="success") == 1
    assert value(watcher.metrics, "machine_errors_total", error="payload-hash-mismatch-error") == 2
    assert value(watcher.metrics, "machine_errors_total", error="http-4xx") == 1
    assert (
        sum(v for (name, _), v in series(watcher.metrics).items() if "machine_errors" in name) == 3
    )


def test_answers_are_counted_by_decision_and_reason() -> None:
    watcher = observer()
    watcher.on_app(AppReport(AppRequest(), Decision(Reason.HELD), HERE))
    watcher.on_app(AppReport(AppRequest(), Decision(Reason.HELD), HERE))
    watcher.on_app(AppReport(AppRequest(ping=PingRequest()), None, HERE))
    assert value(watcher.metrics, "checks_total", decision="noupdate", reason="held") == 2
    assert value(watcher.metrics, "checks_total", decision="offered", reason="held") is None
    assert value(watcher.metrics, "pings_total") == 1


def test_packages_are_counted_with_their_bytes() -> None:
    watcher = observer()
    watcher.on_bytes(1000, "miss")
    watcher.on_bytes(700, "hit")
    watcher.on_bytes(1000, "hit")
    watcher.on_transfer_end(transfer(9))
    watcher.on_transfer_end(transfer(10))
    assert value(watcher.metrics, "packages_sent_total", cache="hit", outcome="cut") == 1
    assert value(watcher.metrics, "packages_sent_total", cache="hit", outcome="whole") == 1
    assert value(watcher.metrics, "served_bytes_total", cache="hit") == 1700
    assert value(watcher.metrics, "served_bytes_total", cache="miss") == 1000


def test_what_the_cache_tells_is_counted() -> None:
    watcher = observer()
    for outcome in events.Outcome:
        watcher.on_cache_event(events.FillEnded("k", "u", 10, 1.0, outcome, ""))
    watcher.on_cache_event(events.Corrupted("k", "bits"))
    watcher.on_cache_event(events.Uncached("k", "u", "full"))
    watcher.on_cache_event(events.Evicted("k", 5))
    watcher.on_cache_event(events.Trouble("k", "u", 0, "dropped", 1.0))
    watcher.on_cache_event(events.Opened("k", "hit"))
    watcher.on_cache_event(events.Repaired("k", "u", 100, 150, leaked=False))
    assert value(watcher.metrics, "mended_bytes_total") == 50
    assert value(watcher.metrics, "verification_failures_total", found="signature") == 1
    assert value(watcher.metrics, "fetched_bytes_total") == 10 * len(events.Outcome)
    for outcome in events.Outcome:
        assert value(watcher.metrics, "fills_total", outcome=outcome) == 1
    assert value(watcher.metrics, "verification_failures_total", found="fill") == 1
    assert value(watcher.metrics, "verification_failures_total", found="scrub") == 1
    assert value(watcher.metrics, "passed_through_total") == 1
    assert value(watcher.metrics, "evicted_bytes_total") == 5
    assert value(watcher.metrics, "upstream_errors_total", kind="package") == 1


def test_a_scrub_leaves_its_time_and_what_came_of_it() -> None:
    watcher = observer()
    assert value(watcher.metrics, "scrubbed_timestamp_seconds") == 0
    watcher.on_scrubbed(VerifyResult("k", 10, VerifyOutcome.WRONG, "bits"))
    assert value(watcher.metrics, "verified_blobs_total", outcome="wrong") == 1
    assert value(watcher.metrics, "scrubbed_timestamp_seconds") == NOW


def test_trouble_that_alerts_watch_is_told_from_the_start() -> None:
    """`increase()` does not see a count that begins at one."""
    watcher = observer()
    for found in ("fill", "scrub"):
        assert value(watcher.metrics, "verification_failures_total", found=found) == 0
    for kind in get_args(UpstreamError):
        assert value(watcher.metrics, "upstream_errors_total", kind=kind) == 0
    for reason in (Reason.REFUSED, Reason.UNREACHABLE):
        watcher.on_upstream_failure(reason)
    assert value(watcher.metrics, "upstream_errors_total", kind="refused") == 1
    assert value(watcher.metrics, "upstream_errors_total", kind="omaha") == 1


def test_every_kind_of_error_has_a_place() -> None:
    labels = {reply.label for _, reply in TABLE} | {reply_to(LookupError()).label}
    assert labels | {*REFUSALS} == {*ERRORS}
    assert reply_to(BadRequest("no")).label in REFUSALS
