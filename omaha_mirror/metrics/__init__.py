"""What Prometheus is told; `python -m omaha_mirror.metrics` prints what there is."""

from omaha_mirror.metrics.counters import CONTENT_TYPE, ERRORS, Metrics
from omaha_mirror.metrics.declared import Declared, Reading
from omaha_mirror.metrics.readings import Queue, readings

__all__ = ["CONTENT_TYPE", "ERRORS", "Declared", "Metrics", "Queue", "Reading", "readings"]
