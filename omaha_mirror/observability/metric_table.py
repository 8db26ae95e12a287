"""The table of all metrics, for people; `python -m omaha_mirror.observability.metric_table` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from omaha_mirror.cache import Ledger
from omaha_mirror.observability.counters import Counters
from omaha_mirror.observability.gauges import readings
from omaha_mirror.observability.health import Health
from omaha_mirror.observability.metric_kinds import Declared

HEAD = "| metric | kind | labels | what it says |\n|---|---|---|---|\n"


def declared() -> list[Declared]:
    """Every metric that a mirror has, besides Prometheus' own for every process (`process_...`)."""
    metrics = Counters()
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


if __name__ == "__main__":
    sys.stdout.write(as_markdown(declared()))
