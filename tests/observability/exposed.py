"""What a scrape gives, read by Prometheus' own parser."""

from collections.abc import Mapping

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from omaha_mirror.observability.counters import Counters

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def series(metrics: Counters) -> Series:
    """The value of each series; fails where one is told twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def value(metrics: Counters, name: str, **labels: str) -> float | None:
    """One number; None where there is no such series. The name is without prefix."""
    return series(metrics).get((f"omaha_mirror_{name}", frozenset(labels.items())))
