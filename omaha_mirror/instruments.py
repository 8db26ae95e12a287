"""What shows how the mirror is: its examination and its readings, over the live parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from omaha_mirror import health
from omaha_mirror.cache import Cache, Ledger
from omaha_mirror.catalog import Catalog
from omaha_mirror.config import Config
from omaha_mirror.expect import expected
from omaha_mirror.metrics import Metrics, Queue, readings


def fit(
    config: Config,
    metrics: Metrics,
    catalog: Catalog,
    cache: Cache,
    ledger: Ledger,
    *,
    also: Callable[[], Iterable[health.Finding]],
    connections: Callable[[], Mapping[str, int]],
    queues: Callable[[], Mapping[str, Queue]],
) -> health.Examiner:
    """Register all readings with the metrics; gives what examines the mirror, `also` included."""
    room = health.Room(config.cache.directory, lambda: ledger.min_free)
    examine = health.Examiner(
        {
            "cache": lambda: health.writable("cache", config.cache.directory),
            "state": lambda: health.writable("state", config.state_directory),
            "disk": room,
        },
        (
            lambda: health.tracks(catalog.channels()),
            lambda: health.packages(_condemned(catalog, cache)),
            also,
        ),
    )
    metrics.watch(
        readings(
            ledger=ledger,
            free=lambda: room.free,
            health=lambda: examine.last,
            fills=cache.fills,
            channels=catalog.channels,
            connections=connections,
            queues=queues,
        )
    )
    return examine


def _condemned(catalog: Catalog, cache: Cache) -> dict[str, str]:
    """The packages of offered releases whose bytes keep turning out wrong, and why."""
    found = {}
    for release in catalog.current():
        for file in release.files:
            if (why := cache.condemned(expected(file).key)) is not None:
                found[f"{release.board}/{release.version}/{file.name}"] = why
    return found
