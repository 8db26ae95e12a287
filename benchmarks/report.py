"""Results as a table and as plots, and as a part of the README."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from benchmarks.bench import Row
from benchmarks.plot import Point, curves
from benchmarks.results import Metric, Results, Sample, machine
from benchmarks.rows import ROWS
from benchmarks.servers import MIRROR, ROOT, START

T = TypeVar("T")
README = ROOT / "README.md"
PUBLISHED = ROOT / "benchmarks" / "results"
"""The run that the README shows, with its plots."""
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"
SHOWN = (("hit", "CPU s/GB"), ("machines", "CPU us a check"))
"""The plots in the README."""
EVEN = 1.0
NONE = "-"


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def middle(rows: Iterable[T], value: Callable[[T], float]) -> float:
    """The median of a value over the rounds."""
    return median(value(row) for row in rows)


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table under a title, and the machine below it."""
    print(f"\n### {title}\n\n{markdown(head, list(rows))}\n{machine()}")


def table(results: Results) -> str:
    """A line for each case and metric that was measured; the last column holds the mirror against the best peer."""
    peers = [name for name in START if name in results.versions and name != MIRROR]
    lines = [line for row in ROWS.values() for line in _lines(results, row, peers)]
    return markdown(("row", "case", "measured", MIRROR, *peers, "of the best peer"), lines)


def _lines(results: Results, row: Row, peers: Sequence[str]) -> Iterator[Sequence[str]]:
    for case in results.cases(row.name):
        for metric in row.metrics:
            ours = results.find(row.name, case, MIRROR, metric.name)
            theirs = [results.find(row.name, case, peer, metric.name) for peer in peers]
            what = f"`{row.name}` {row.title}"
            cells = [_cell(sample) for sample in (ours, *theirs)]
            yield what, case, metric.name, *cells, _ratio(metric, ours, theirs)


def _cell(sample: Sample | None) -> str:
    """The median, with the least and the most."""
    if sample is None:
        return NONE
    least, most = min(sample.values), max(sample.values)
    middle = _short(sample.median)
    return middle if least == most else f"{middle} ({_short(least)} to {_short(most)})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(metric: Metric, ours: Sample | None, theirs: Sequence[Sample | None]) -> str:
    found = [sample.median for sample in theirs if sample is not None]
    best = (max if metric.higher_is_better else min)(found) if found else 0.0
    if ours is None or not best:
        return NONE
    ratio = ours.median / best
    ahead = ratio < EVEN if metric.higher_is_better else ratio > EVEN
    return f"{ratio:.2f}{', the peer is ahead' if ahead else ''}"


def plots(results: Results) -> dict[str, str]:
    """SVG texts by the names of their files: one for each metric of the rows that grow."""
    return {
        _file(row.name, metric.name): drawn
        for row in ROWS.values()
        for metric in row.metrics
        if row.x_label and (drawn := _plot(results, row, metric))
    }


def _file(row: str, metric: str) -> str:
    return f"{row}-{metric.lower().replace(' ', '-').replace('/', '-per-')}.svg"


def _plot(results: Results, row: Row, metric: Metric) -> str:
    series: dict[str, list[Point]] = {}
    for sample in results.samples:
        if (sample.row, sample.metric) == (row.name, metric.name):
            point = (sample.x, sample.median, min(sample.values), max(sample.values))
            series.setdefault(sample.server, []).append(point)
    return curves(row.title, row.x_label, metric.name, series) if series else ""


def section(results: Results) -> str:
    """What the README shows."""
    servers = {version: name for name, version in reversed(results.versions.items())}
    versions = ", ".join(f"{name} {version}" for version, name in reversed(servers.items()))
    shown = " ".join(
        f"![{metric}](benchmarks/results/{_file(row, metric)})" for row, metric in SHOWN
    )
    return (
        f"`{results.command}` on {results.when}: {results.machine}; {versions}. Medians, with the least and the most of"
        " the rounds, in which the servers took turns; CPU is user and system time of the server's processes. `-`: not"
        " installed, or not something that it does. Packages have 256 MB (`hit`, `fill`), 100 MB (`herd`, `range`), 400 MB (`first-use`) and"
        f" 5 MB (`readers`), in `make bench-quick` less.\n\n{table(results)}\n{shown}\n"
    )


def write(results: Results, folder: Path) -> None:
    """Put the results, the table and the plots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    (folder / "table.md").write_text(table(results))
    for name, text in plots(results).items():
        (folder / name).write_text(text)


def publish(results: Results) -> None:
    """Put a run into the README, and beside it what that shows."""
    PUBLISHED.mkdir(exist_ok=True)
    results.save(PUBLISHED / "results.json")
    for row, metric in SHOWN:
        (PUBLISHED / _file(row, metric)).write_text(plots(results)[_file(row, metric)])
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}{section(results)}{END}{rest.partition(END)[2]}")
