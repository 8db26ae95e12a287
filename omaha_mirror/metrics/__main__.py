"""Prints the table of all metrics."""

import sys

from omaha_mirror.metrics.table import as_markdown, declared

sys.stdout.write(as_markdown(declared()))
