"""The comparison with other servers runs, and the README shows all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.guard import CHECK, CHECK_CALLS, HIT, HIT_CALLS, risen
from benchmarks.report import BEGIN, END, PUBLISHED, README, section
from benchmarks.results import Results
from benchmarks.rows import ROWS
from benchmarks.servers import MIRROR, ROOT


def test_the_readme_shows_each_row_of_the_run_that_is_kept() -> None:
    results = Results.load(PUBLISHED / "results.json")
    shown = README.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == section(results)
    for row in ROWS.values():
        cases = results.cases(row.name)
        assert cases, row.name
        for case in cases:
            for metric in row.metrics:
                assert results.find(row.name, case, MIRROR, metric.name), (row.name, case)


def test_what_rises_by_too_much_is_told() -> None:
    ratios = {CHECK: 1.1, HIT: 1.16, HIT_CALLS: 1.02, CHECK_CALLS: 1.04}
    assert [line.partition(":")[0] for line in risen(ratios)] == [HIT, CHECK_CALLS]


@pytest.mark.long
def test_a_row_runs(tmp_path: Path) -> None:
    subprocess.run(
        (sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path), "connections"),
        cwd=ROOT,
        check=True,
    )
    results = Results.load(tmp_path / "results.json")
    assert len(results.cases("connections")) == 3
    assert (tmp_path / "connections-memory-mb.svg").read_text().startswith("<svg")
    assert "`connections`" in (tmp_path / "table.md").read_text()
