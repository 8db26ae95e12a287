"""The metrics that are read at each scrape; all of them are declared here.

There is a series for each track that the catalog shows: those of the config, and a bounded number of learnt ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from omaha_mirror.cache import Ledger, Progress
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.observability.health import Health, State
from omaha_mirror.observability.metric_kinds import (
    PREFIX,
    Declared,
    Reading,
    Series,
    counter,
    gauge,
)

TRACK = ("app_id", "board", "track")


class Queue(Protocol):
    """Counts of a queue since the start; `OutboxStats` is one."""

    @property
    def queued(self) -> int:
        """Items that wait now."""

    @property
    def sent(self) -> int:
        """Items that were delivered."""

    @property
    def dropped(self) -> int:
        """Dropped because the queue was full."""

    @property
    def refused(self) -> int:
        """Dropped because the receiver refused them for good."""


def readings(
    *,
    ledger: Ledger,
    free: Callable[[], int | None],
    health: Callable[[], Health],
    fills: Callable[[], Iterable[Progress]],
    channels: Callable[[], Iterable[ChannelStatus]],
    connections: Callable[[], Mapping[str, int]],
    queues: Callable[[], Mapping[str, Queue]],
    lost_lines: Mapping[str, int],
) -> list[Reading]:
    """All of these metrics. No callable may wait.

    Args:
        ledger: the books of the cache.
        free: bytes that were last seen free on its disk, None before the first look.
        health: as it was last examined.
        fills: under way and in the queue.
        channels: where tracks lead, as it was last examined.
        connections: how many there are now, by listener.
        queues: by their names.
        lost_lines: of the log, by why; a view that goes on.
    """
    return [
        gauge(
            "health",
            "1 for the state on /readyz: ok, degraded or failed.",
            "state",
            read=lambda: [((state,), health().state is state) for state in State],
        ),
        *_cache(ledger, free),
        gauge(
            "fills_under_way",
            "Packages that are being fetched (running), and that wait for their turn (queued).",
            "state",
            read=lambda: _fills(fills()),
        ),
        gauge(
            "connections",
            "Connections now, by listener.",
            "listener",
            read=lambda: _by_name(connections()),
        ),
        *_tracks(channels),
        *_queues(queues),
        counter(
            "log_lines_dropped",
            "Lines of the log that were lost: too much waited (queue-full), or standard error took none (write-failed).",
            "reason",
            read=lambda: _by_name(lost_lines),
        ),
    ]


def _cache(ledger: Ledger, free: Callable[[], int | None]) -> Iterator[Reading]:
    yield gauge(
        "cache_used_bytes",
        "Proven packages and what is booked for fetches.",
        read=lambda: _one(ledger.used),
    )
    yield gauge("cache_max_bytes", "cache.max_size.", read=lambda: _one(ledger.max_size))
    yield gauge(
        "cache_blobs", "Proven packages on the disk.", read=lambda: _one(len(ledger.entries))
    )
    yield gauge("disk_free_bytes", "Free on the cache's disk.", read=lambda: _one(free()))
    yield gauge("disk_min_free_bytes", "cache.min_free.", read=lambda: _one(ledger.min_free))


def _queues(queues: Callable[[], Mapping[str, Queue]]) -> Iterator[Reading]:
    yield gauge(
        "queue_items",
        "What waits to be delivered, by queue.",
        "queue",
        read=lambda: _by_name({name: queue.queued for name, queue in queues().items()}),
    )
    yield counter(
        "queue_ended",
        "What left a queue: sent, dropped because there was too much, or refused for good.",
        "queue",
        "outcome",
        read=lambda: _ended(queues()),
    )


def _tracks(channels: Callable[[], Iterable[ChannelStatus]]) -> Iterator[Reading]:
    def each(name: str, help_: str, value: Callable[[ChannelStatus], float]) -> Reading:
        def read(found: Iterable[ChannelStatus]) -> Series:
            return [((c.app_id, c.board, c.track), value(c)) for c in found]

        return Reading(Declared(f"{PREFIX}{name}", "gauge", TRACK, help_), channels, read)

    yield each(
        "track_answered_timestamp_seconds",
        "When upstream last gave a good answer about a track, in seconds since the epoch; 0 for never.",
        lambda channel: channel.answered,
    )
    yield each(
        "track_asked_timestamp_seconds",
        "When a machine last asked on a track, in seconds since the epoch; 0 for never.",
        lambda channel: channel.asked,
    )
    yield each(
        "track_trouble",
        "1 where upstream's last answer about a track could not be had or used.",
        lambda channel: bool(channel.trouble),
    )
    yield each(
        "track_offers",
        "Versions that machines of a track are led through now, floors and target; 0 is no update.",
        lambda channel: sum(s.state is Reason.OFFERED for s in channel.steps),
    )


def _one(value: float | None) -> Series:
    return [] if value is None else [((), value)]


def _by_name(values: Mapping[str, float]) -> Series:
    return [((name,), value) for name, value in values.items()]


def _fills(fills: Iterable[Progress]) -> Series:
    queued = [fill.queued > 0 for fill in fills]
    return [(("running",), queued.count(False)), (("queued",), queued.count(True))]


def _ended(queues: Mapping[str, Queue]) -> Series:
    for name, queue in queues.items():
        yield (name, "sent"), queue.sent
        yield (name, "dropped"), queue.dropped
        yield (name, "refused"), queue.refused
