"""What is counted: every counter is declared here with what it says, and nowhere else.

Labels have values from closed sets, and what is outside counts as `other`: nothing that a client makes up becomes a
series.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest

from omaha_mirror import __version__
from omaha_mirror.cache import VerifyResult, events
from omaha_mirror.cache.verifier import VerifyOutcome
from omaha_mirror.catalog import Reason
from omaha_mirror.observability.metrics import (
    OTHER,
    PREFIX,
    Declared,
    Labels,
    Looked,
    Reading,
    Tally,
    gauge,
)
from omaha_mirror.omaha import EventRequest, EventResult, EventType, describe_error
from omaha_mirror.omaha.exit_codes import HTTP_BASE, Code, ErrorCode
from omaha_mirror.policy.decide import Decision

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UpstreamError = Literal["package", "omaha", "refused"]

REFUSALS = ("bad-request", "bad-omaha", "not-found", "no-password", "not-over-tls")
ERRORS = (
    *REFUSALS,
    *("gone-upstream", "begin-again", "nothing-in-time", "wrong-bytes", "untrusted", "not-allowed"),
    *("upstream", "no-room", "stopping", "cache", "disk", "unexpected"),
)
"""The kinds of trouble that an answer to a client can have."""


def _names(codes: type[Code]) -> tuple[str, ...]:
    return tuple(code.name.lower() for code in codes)


_HTTP = tuple(f"http-{hundred}xx" for hundred in range(10))
MACHINE_ERRORS = (
    *(name.replace("_", "-") for name in _names(ErrorCode)),
    *("no-answer", "unknown", *_HTTP),
)


class Metrics:
    """The counters of one mirror.

    Attributes:
        declared: all of its metrics that are not Prometheus' own for every process.
    """

    def __init__(self) -> None:
        # A second series for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Declared(f"{PREFIX}build_info", "info", ("version",), "The running version.")
        Info(f"{PREFIX}build", build.help, registry=self._registry).info({"version": __version__})
        self.declared = [build]

        count = self._count
        self._checks = count(
            "checks",
            "Update checks answered, by what was told and why.",
            decision=("offered", "noupdate"),
            reason=tuple(Reason),
        )
        self._pings = count("pings", "Pings of machines, with or without a check.")
        self._events = count(
            "events",
            "Events that machines reported, by type and result.",
            event=_names(EventType),
            result=_names(EventResult),
        )
        self._errors = count(
            "machine_errors",
            "Error codes that machines reported with events, by name, without their flags.",
            error=MACHINE_ERRORS,
        )
        self._refused = count(
            "bad_requests", "Requests that could not be answered as they were.", error=REFUSALS
        )
        self._sent = count(
            "packages_sent",
            "Package requests answered with bytes, by how they met the cache and whether all was sent.",
            cache=get_args(events.Status),
            outcome=("whole", "cut"),
        )
        self._failed = count(
            "packages_failed", "Package requests that got an error, by its kind.", error=ERRORS
        )
        self._served = count(
            "served_bytes",
            "Bytes of packages sent to machines, by how they met the cache.",
            cache=get_args(events.Status),
        )
        self._fetched = count(
            "fetched_bytes",
            "Bytes of packages fetched from upstream, counted when a fetch ends; served minus fetched was saved.",
        )
        self._fills = count(
            "fills", "Fetches of packages that ended, by how.", outcome=tuple(events.Outcome)
        )
        self._wrong = count(
            "verification_failures",
            "Packages whose bytes turned out wrong: while they came (fill), or on the disk (scrub); and those that"
            " no key of upstream.public_keys has signed (signature).",
            found=("fill", "scrub", "signature"),
        )
        self._mended = count(
            "mended_bytes",
            "Bytes of packages that were fetched again because they were wrong when they came.",
        )
        self._verified = count(
            "verified_blobs",
            "Blobs that the scrubber read again and held against their digest, by what came of it.",
            outcome=tuple(VerifyOutcome),
        )
        self._verified_last = 0.0
        self._not_kept = count(
            "passed_through", "Packages that passed through because they could not be kept."
        )
        self._evicted = count("evicted_bytes", "Bytes of packages evicted to make room.")
        self._upstream = count(
            "upstream_errors",
            "Trouble upstream: a connection for a package, no answer to a question (omaha), one that is refused.",
            kind=get_args(UpstreamError),
        )
        self.watch(
            [
                gauge(
                    "scrubbed_timestamp_seconds",
                    "When the scrubber last read a blob again, in seconds since the epoch; 0 before the first.",
                    read=lambda: [((), self._verified_last)],
                )
            ]
        )

    def _count(self, name: str, help_: str, **labels: Labels) -> Tally:
        tally = Tally(self._registry, name, help_, labels)
        self.declared.append(tally.declared)
        return tally

    def watch(self, readings: Iterable[Reading]) -> None:
        """Add metrics that are looked up."""
        readings = tuple(readings)
        self.declared += [reading.declared for reading in readings]
        self._registry.register(Looked(readings))

    def exposition(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    # What machines ask

    def decided(self, decision: Decision) -> None:
        """An update check was answered."""
        told = "offered" if decision.release is not None else "noupdate"
        self._checks.add(told, decision.reason)

    def pinged(self) -> None:
        """A machine lives."""
        self._pings.add()

    def reported(self, event: EventRequest) -> None:
        """A machine reported an event."""
        kind, result = EventType.find(event.eventtype), EventResult.find(event.eventresult)
        self._events.add(_name(kind), _name(result))
        if event.errorcode:
            self._errors.add(_error(event.errorcode))

    def refused(self, error: str) -> None:
        """A request was no good; `error` is one of `REFUSALS`."""
        self._refused.add(error)

    # Packages

    def served(self, count: int, cache: events.Status) -> None:
        """So many bytes of a package went to a machine."""
        self._served.add(cache, count=count)

    def sent(self, cache: events.Status, *, whole: bool) -> None:
        """The answer to a package request ended."""
        self._sent.add(cache, "whole" if whole else "cut")

    def failed(self, error: str) -> None:
        """A package could not be had; `error` is one of `ERRORS`."""
        self._failed.add(error)

    def happened(self, event: events.Event) -> None:
        """The cache told something."""
        match event:
            case events.Trouble():
                self._upstream.add("package")
            case events.FillEnded():
                self._fetched.add(count=event.fetched)
                self._fills.add(event.outcome)
                if event.outcome is events.Outcome.WRONG:
                    self._wrong.add("fill")
                if event.outcome is events.Outcome.UNTRUSTED:
                    self._wrong.add("signature")
            case events.Repaired():
                self._mended.add(count=event.stop - event.start)
            case events.Uncached():
                self._not_kept.add()
            case events.Evicted():
                self._evicted.add(count=event.size)
            case events.Corrupted():
                self._wrong.add("scrub")
            case _:
                pass

    def verified(self, verdict: VerifyResult, now: float) -> None:
        """The scrubber read a blob again, in seconds since the epoch."""
        self._verified.add(verdict.outcome)
        self._verified_last = now

    def upstream_failed(self, kind: UpstreamError) -> None:
        """A question to upstream failed (`omaha`), or its answer cannot be used (`refused`)."""
        self._upstream.add(kind)


def _name(code: Code | None) -> str:
    return code.name.lower() if code is not None else OTHER


def _error(code: int) -> str:
    """The name of an error, without its flag bits; HTTP statuses by their hundreds."""
    error = describe_error(code)
    if error.name.startswith("http-"):
        return _HTTP[(error.base - HTTP_BASE) // 100]
    return error.name
