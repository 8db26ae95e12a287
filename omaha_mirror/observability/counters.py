"""The counters: all of them are declared here.

Labels have values from closed sets, and what is outside counts as `other`: nothing that a client makes up becomes a
series.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest

from omaha_mirror import __version__
from omaha_mirror.aio.tasks import in_slices
from omaha_mirror.aio.workers import WORK
from omaha_mirror.cache import events
from omaha_mirror.cache.scrub import VerifyOutcome
from omaha_mirror.catalog import Reason
from omaha_mirror.observability.metric_kinds import (
    PREFIX,
    Declared,
    Labels,
    Looked,
    Reading,
    Taken,
    Tally,
    gauge,
)
from omaha_mirror.omaha import EventResult, EventType
from omaha_mirror.omaha.codes import Code, ErrorCode

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UpstreamError = Literal["package", "omaha", "refused"]

REFUSALS = ("bad-request", "bad-omaha", "not-found", "no-password", "not-over-tls")
ERRORS = (
    *REFUSALS,
    *("gone-upstream", "begin-again", "nothing-in-time", "wrong-bytes", "untrusted", "not-allowed"),
    *("upstream", "no-room", "stopping", "cache", "disk", "unexpected"),
)
"""The error labels of answers to clients."""


def _names(codes: type[Code]) -> tuple[str, ...]:
    return tuple(code.name.lower() for code in codes)


HTTP_ERRORS = tuple(f"http-{hundred}xx" for hundred in range(10))
MACHINE_ERRORS = (
    *(name.replace("_", "-") for name in _names(ErrorCode)),
    *("no-answer", "unknown", *HTTP_ERRORS),
)


class Counters:
    """The counters of one mirror.

    Attributes:
        declared: all of its metrics that are not Prometheus' own for every process.
        registry: gives the numbers as they are now.
    """

    def __init__(self) -> None:
        # A second series for each counter, which has no use.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Declared(f"{PREFIX}build_info", "info", ("version",), "The running version.")
        Info(f"{PREFIX}build", build.help, registry=self.registry).info({"version": __version__})
        self.declared = [build]
        self._declare_requests()
        self._declare_transfers()
        self._declare_cache()
        self.watch(
            [
                gauge(
                    "scrubbed_timestamp_seconds",
                    "When the scrubber last read a blob again, in seconds since the epoch; 0 before the first.",
                    read=lambda: [((), self.scrubbed)],
                )
            ]
        )

    def _declare_requests(self) -> None:
        count = self._count
        self.checks = count(
            "checks",
            "Update checks answered, by the decision and its reason.",
            decision=("offered", "noupdate"),
            reason=tuple(Reason),
        )
        self.pings = count("pings", "Pings of machines, with or without a check.")
        self.events = count(
            "events",
            "Events that machines reported, by type and result.",
            event=_names(EventType),
            result=_names(EventResult),
        )
        self.errors = count(
            "machine_errors",
            "Error codes that machines reported with events, by name, without their flags.",
            error=MACHINE_ERRORS,
        )
        self.refused = count(
            "bad_requests", "Requests that could not be answered as they were.", error=REFUSALS
        )

    def _declare_transfers(self) -> None:
        count = self._count
        self.sent = count(
            "packages_sent",
            "Package requests answered with bytes, by how they met the cache and whether all was sent.",
            cache=get_args(events.Status),
            outcome=("whole", "cut"),
        )
        self.failed = count(
            "packages_failed", "Package requests that got an error, by its kind.", error=ERRORS
        )
        self.served = count(
            "served_bytes",
            "Bytes of packages sent to machines, by how they met the cache.",
            cache=get_args(events.Status),
        )

    def _declare_cache(self) -> None:
        count = self._count
        self.fetched = count(
            "fetched_bytes",
            "Bytes of packages fetched from upstream, counted when a fetch ends; served minus fetched was saved.",
        )
        self.fills = count(
            "fills", "Fetches of packages that ended, by how.", outcome=tuple(events.Outcome)
        )
        self.wrong = count(
            "verification_failures",
            "Packages whose bytes turned out wrong: while they came (fill), or on the disk (scrub); and those that"
            " no key of upstream.public_keys has signed (signature).",
            found=("fill", "scrub", "signature"),
        )
        self.mended = count(
            "mended_bytes",
            "Bytes of packages that were fetched again because they were wrong when they came.",
        )
        self.verified = count(
            "verified_blobs",
            "Blobs that the scrubber read again and held against their digest, by what came of it.",
            outcome=tuple(VerifyOutcome),
        )
        self.scrubbed = 0.0
        self.not_kept = count(
            "passed_through", "Packages that passed through because they could not be kept."
        )
        self.evicted = count("evicted_bytes", "Bytes of packages evicted to make room.")
        self.upstream = count(
            "upstream_errors",
            "Trouble upstream: a connection for a package, no answer to a question (omaha), one that is refused.",
            kind=get_args(UpstreamError),
        )

    def _count(self, name: str, help_: str, **labels: Labels) -> Tally:
        tally = Tally(self.registry, name, help_, labels)
        self.declared.append(tally.declared)
        return tally

    def watch(self, readings: Iterable[Reading]) -> None:
        """Add metrics that are looked up."""
        readings = tuple(readings)
        self.declared += [reading.declared for reading in readings]
        self.registry.register(Looked(readings))

    async def exposition(self) -> bytes:
        """All of it, as Prometheus reads it: a metric at a time, and written in a worker, as there may be many series."""
        taken = CollectorRegistry()
        taken.register(Taken(await in_slices(self.registry.collect(), 1)))
        return await WORK.call(generate_latest, taken)
