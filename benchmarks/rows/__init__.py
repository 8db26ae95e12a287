"""The rows of the comparison."""

from benchmarks.bench import Row
from benchmarks.rows import checks, growth, packages

ROWS: dict[str, Row] = {row.name: row for row in (*checks.ROWS, *packages.ROWS, *growth.ROWS)}
"""By name, in the order of the table."""
