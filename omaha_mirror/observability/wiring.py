"""Connects the health checks and the readings to the running parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache import Cache, Ledger
from omaha_mirror.catalog import Reason
from omaha_mirror.config import Config
from omaha_mirror.observability import findings, health
from omaha_mirror.observability.counters import Counters
from omaha_mirror.observability.gauges import Queue, readings
from omaha_mirror.observability.standard_error import WRITER
from omaha_mirror.policy.availability import Availability
from omaha_mirror.policy.tracks import Tracks


def wire(
    config: Config,
    metrics: Counters,
    availability: Availability,
    tracks: Tracks,
    cache: Cache,
    ledger: Ledger,
    *,
    held: Callable[[Path], bool],
    redirects: Callable[[], Iterable[str]],
    also: Callable[[], Iterable[health.Finding]],
    connections: Callable[[], Mapping[str, int]],
    queues: Callable[[], Mapping[str, Queue]],
) -> health.Examiner:
    """Register all readings with the metrics; gives the examiner, with the checks of `also`.

    `held` says whether no other mirror can take a directory; it waits for the disk.
    """
    disk_space = health.DiskSpace(config.cache.directory, lambda: ledger.min_free)
    track_check = findings.TrackCheck(tracks.paths, cache.clock)
    quick: tuple[health.Check, ...] = (
        track_check,
        lambda: findings.packages(availability.packages().get(Reason.PAYLOAD_WRONG, {})),
        lambda: findings.signatures(availability.packages().get(Reason.UNTRUSTED, {})),
        lambda: findings.redirects(redirects()),
        lambda: findings.log(WRITER.trouble(), sum(WRITER.dropped.values())),
        lambda: findings.reading(config.cache.directory, BLOBS.hanging()),
        lambda: findings.quarantine(cache.immovable()),
        also,
    )
    examine = _examiner(config, disk_space, quick, held)
    metrics.watch(
        readings(
            ledger=ledger,
            free=lambda: disk_space.free,
            health=lambda: examine.last,
            fills=cache.fills,
            channels=track_check.statuses,
            connections=connections,
            queues=queues,
            lost_lines=WRITER.dropped,
        )
    )
    return examine


def _examiner(
    config: Config,
    disk_space: health.DiskSpace,
    quick: Iterable[health.Check],
    held: Callable[[Path], bool],
) -> health.Examiner:
    """Examines both directories and the disk of the cache, and makes the quick checks."""
    cached, state = config.cache.directory, config.state_directory
    return health.Examiner(
        {
            "cache": lambda: health.writable("cache", cached, held),
            "state": lambda: health.writable("state", state, held),
            "disk": disk_space,
        },
        quick,
        where={"cache": cached, "state": state, "disk": cached},
    )
