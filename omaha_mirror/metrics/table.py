"""The table of all metrics, for people."""

from __future__ import annotations

from collections.abc import Iterable

from omaha_mirror.cache import Ledger
from omaha_mirror.health import Health
from omaha_mirror.metrics.counters import Metrics
from omaha_mirror.metrics.declared import Declared
from omaha_mirror.metrics.readings import readings

HEAD = "| metric | kind | labels | what it says |\n|---|---|---|---|\n"


def declared() -> list[Declared]:
    """Every metric that a mirror has, besides Prometheus' own for every process (`process_...`)."""
    metrics = Metrics()
    metrics.watch(
        readings(
            ledger=Ledger(0, 0),
            free=lambda: None,
            health=lambda: Health(()),
            fills=tuple,
            channels=tuple,
            connections=dict,
            queues=dict,
            lost_lines={},
        )
    )
    return metrics.declared


def as_markdown(metrics: Iterable[Declared]) -> str:
    """A table in Markdown."""
    return HEAD + "".join(
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |\n"
        for metric in metrics
    )
