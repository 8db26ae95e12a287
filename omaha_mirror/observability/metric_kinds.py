"""The two kinds of metrics: counters with closed label sets, and readings that are taken at each scrape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LOG = structlog.get_logger(__name__)
PREFIX = "omaha_mirror_"
OTHER = "other"
FEW = 20
"""A counter with no more series has all of them from the start, so that `increase()` sees the first count."""

Kind = Literal["counter", "gauge", "info"]
Labels = tuple[str, ...]
Series = Iterable[tuple[Labels, float]]
Read = Callable[[], Series]


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as it is exposed.

    Attributes:
        name: with prefix and suffix.
        kind: as Prometheus calls it.
        labels: their names.
        help: what it says.
    """

    name: str
    kind: Kind
    labels: Labels
    help: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric whose values are read at each scrape.

    Attributes:
        declared: how it is exposed.
        look: looks; its result is shared by all metrics that are read from it.
        read: gives, from that, the label values and the number of each series.
    """

    declared: Declared
    look: Callable[[], Any]
    read: Callable[[Any], Series]


class Tally:
    """A counter whose labels have values from closed sets.

    Args:
        registry: that exposes it.
        name: without prefix and `_total`.
        help_: what it says.
        labels: their names, each with its values.
    """

    def __init__(
        self, registry: CollectorRegistry, name: str, help_: str, labels: Mapping[str, Labels]
    ) -> None:
        self.declared = Declared(f"{PREFIX}{name}_total", "counter", tuple(labels), help_)
        self._values = tuple(map(frozenset, labels.values()))
        self._counter = Counter(self.declared.name, help_, tuple(labels), registry=registry)
        self._series: dict[Labels, Counter] = {}
        if labels and math.prod(map(len, self._values)) <= FEW:
            for values in product(*labels.values()):
                self._counter.labels(*values)

    def add(self, *values: str, count: int = 1) -> None:
        """Count something, with a value for each label."""
        series = self._series.get(values)
        if series is None:
            pairs = zip(values, self._values, strict=True)
            kept = tuple(value if value in known else OTHER for value, known in pairs)
            series = self._counter.labels(*kept) if kept else self._counter
            if kept == values:
                self._series[values] = series
        series.inc(count)


class Looked(Collector):
    """Takes the readings of a scrape; one that raises is logged and left out."""

    def __init__(self, readings: tuple[Reading, ...]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The readings, as prometheus_client collects them."""
        looks: dict[Callable[[], Any], Any] = {}
        for reading in self._readings:
            declared = reading.declared
            family = GaugeMetricFamily if declared.kind == "gauge" else CounterMetricFamily
            found = family(declared.name, declared.help, labels=declared.labels)
            try:
                if reading.look not in looks:
                    looks[reading.look] = reading.look()
                for labels, value in reading.read(looks[reading.look]):
                    found.add_metric(labels, value)
            except Exception:
                LOG.exception("a metric cannot be read", metric=declared.name)
                continue
            yield found


class Taken(Collector):
    """Metrics as they were at one time."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


def gauge(name: str, help_: str, *labels: str, read: Read) -> Reading:
    """A number that goes up and down; the name is without prefix."""
    return Reading(Declared(f"{PREFIX}{name}", "gauge", labels, help_), read, _as_it_is)


def counter(name: str, help_: str, *labels: str, read: Read) -> Reading:
    """A number that another part counts; the name is without prefix and `_total`."""
    return Reading(Declared(f"{PREFIX}{name}_total", "counter", labels, help_), read, _as_it_is)


def _as_it_is(found: Series) -> Series:
    return found
