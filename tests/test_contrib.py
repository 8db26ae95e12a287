"""The dashboard and the alerts ask only for metrics that a mirror has, by labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import Ledger, Progress
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.observability.gauges import readings
from omaha_mirror.observability.health import Health
from omaha_mirror.observability.metric_table import as_markdown, declared
from omaha_mirror.observability.observers import AppReport, Observer
from omaha_mirror.omaha import AppRequest, EventRequest
from omaha_mirror.policy.decide import Decision
from omaha_mirror.upstream.outbox import OutboxStats

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "contrib" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "contrib" / "grafana" / "omaha-mirror.json"
PROMTOOL = shutil.which("promtool")
OF_THE_TARGET = {"job", "instance"}

METRIC = re.compile(r"\b((?:omaha_mirror|process)_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*(?:,|$)')
GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")
SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")

Labels = dict[str, set[str]]


@pytest.fixture(scope="module")
def exposed() -> dict[str, Labels]:
    """Every sample of a mirror at work, with the values that each label has."""
    observer = Observer(lambda _: None, Clock())
    metrics = observer.metrics
    status = ChannelStatus("app", "board", "stable", (), Reason.BUSY, "", "", 0, 0, 0)
    metrics.watch(
        readings(
            ledger=Ledger(1, 0),
            free=lambda: 1,
            health=lambda: Health(()),
            fills=lambda: [Progress("k", "u", 1, 0, 0.0, 0, 0)],
            channels=lambda: [status],
            connections=lambda: {"public": 1},
            queues=lambda: {"outbox": OutboxStats(1, 1, 1, 1)},
            lost_lines={"queue-full": 1},
        )
    )
    event = EventRequest(eventtype=3, eventresult=0, errorcode=10)
    observer.on_app(AppReport(AppRequest(events=(event,)), Decision(Reason.HELD), ""))
    found: dict[str, Labels] = {"up": {}}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def rules() -> list[dict[str, Any]]:
    told = yaml.safe_load(ALERTS.read_text())
    return [rule for group in told["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    told = json.loads(DASHBOARD.read_text())
    found: list[dict[str, Any]] = [p for p in told["panels"] if p["type"] != "row"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, and the text that shows its labels."""
    for rule in rules():
        yield rule["expr"], " ".join(rule["annotations"].values())
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"], ""


def wrong(query: str, shown: str, exposed: dict[str, Labels]) -> list[str]:
    """What of a query a mirror does not have."""
    named = METRIC.findall(query)
    assert named, f"{query} asks for nothing"
    found = [name for name, _ in named if name not in exposed]
    known = OF_THE_TARGET.union(*(exposed.get(name, {}) for name, _ in named))
    for name, selector in named:
        assert MATCHER.sub("", selector) == "", f"{query}: {selector} cannot be read"
        labels = exposed.get(name, {})
        for label, how, value in MATCHER.findall(selector):
            if label not in OF_THE_TARGET | labels.keys():
                found.append(f"{name}{{{label}}}")
            elif label not in OF_THE_TARGET:
                values = set(value.split("|")) if how in ("=~", "!~") else {value}
                found += [f"{label}={each}" for each in values - labels[label]]
    grouped = {label.strip() for group in GROUPING.findall(query) for label in group.split(",")}
    return found + sorted((grouped | {*SHOWN.findall(shown)}) - known)


@pytest.mark.parametrize(("query", "shown"), list(queries()))
def test_a_query_asks_for_what_there_is(query: str, shown: str, exposed: dict[str, Labels]) -> None:
    assert wrong(query, shown, exposed) == []


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("omaha_mirror_nothing_total > 0", ["omaha_mirror_nothing_total"]),
        ('omaha_mirror_fills_total{event="x"}', ["omaha_mirror_fills_total{event}"]),
        ('omaha_mirror_fills_total{outcome="good"}', ["outcome=good"]),
        ('omaha_mirror_fills_total{outcome=~"wrong|bad"}', ["outcome=bad"]),
        ("sum by (track) (omaha_mirror_fills_total)", ["track"]),
    ],
)
def test_a_query_for_what_is_not_there_is_found(
    query: str, missing: list[str], exposed: dict[str, Labels]
) -> None:
    assert wrong(query, "", exposed) == missing


def test_every_metric_is_shown_or_watched() -> None:
    asked = {name for query, _ in queries() for name, _ in METRIC.findall(query)}
    unused = {metric.name for metric in declared()} - asked
    assert unused == {"omaha_mirror_pings_total", "omaha_mirror_evicted_bytes_total"}


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["annotations"]["description"].endswith(".")


def test_every_panel_says_what_it_shows_and_covers_no_other() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


if PROMTOOL is not None:

    def test_promtool_takes_the_alerts() -> None:
        subprocess.run([str(PROMTOOL), "check", "rules", str(ALERTS)], check=True)


def test_the_readme_has_the_table_of_all_metrics() -> None:
    """`python -m omaha_mirror.observability.metric_table` prints it."""
    _, _, rest = (ROOT / "README.md").read_text().partition("<!-- metrics -->\n")
    assert rest.partition("<!-- /metrics -->")[0] == as_markdown(declared())
