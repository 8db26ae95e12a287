"""Charts as numbers: what a template needs to draw them as SVG, so that it is the template that makes text inert. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from omaha_mirror.fleet import Census, State
from omaha_mirror.web.admin.page.rendering import moment, percent

SPAN = 7 * 86400
STEP = 3 * 3600
"""Seconds that a chart shows, and that one of its bars stands for."""
WIDTH = 640.0
HEIGHT = 160.0
COLOURS = 6
OTHERS = "others"
STATES = {
    State.COMPLETE: "complete",
    State.GRANTED: "granted",
    State.DOWNLOADING: "downloading",
    State.DOWNLOADED: "downloaded",
    State.INSTALLED: "installed",
    State.ON_HOLD: "on-hold",
    State.ERROR: "error",
    State.UNDEFINED: "undefined",
}
"""In the order in which they are stacked, each with its class in the style sheet."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `words` say what it counts."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    words: str


@dataclass(frozen=True, slots=True)
class Share:
    """An entry of a legend: how many there are now."""

    name: str
    colour: str
    count: int
    percent: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars over time, and how it is now.

    Attributes:
        top: the number that the full height stands for.
        first: the time at its left end; the right one is now.
    """

    bars: tuple[Bar, ...]
    shares: tuple[Share, ...]
    top: int
    first: str


def state_chart(history: Sequence[Census], current: Mapping[str, int], now: float) -> Chart:
    """Machines by their state."""
    colours = {state.value: f"state-{name}" for state, name in STATES.items()}
    return _chart(history, current, colours, now)


def version_chart(history: Sequence[Census], current: Mapping[str, int], now: float) -> Chart:
    """Machines by their version: the most frequent ones, and all others together."""
    ever: dict[str, int] = dict(current)
    for census in history:
        for version, count in census.machines.items():
            ever[version] = max(ever.get(version, 0), count)
    named = sorted(ever, key=lambda version: (-ever[version], version))[:COLOURS]
    colours = {version: f"version-{n}" for n, version in enumerate(named)}
    colours[OTHERS] = "version-others"
    gathered = [Census(item.time, _gathered(item.machines, named)) for item in history]
    return _chart(gathered, _gathered(current, named), colours, now)


def _gathered(machines: Mapping[str, int], named: Collection[str]) -> dict[str, int]:
    counted = {name: count for name, count in machines.items() if name in named}
    if others := sum(machines.values()) - sum(counted.values()):
        counted[OTHERS] = counted.get(OTHERS, 0) + others
    return counted


def _chart(
    history: Sequence[Census], current: Mapping[str, int], colours: Mapping[str, str], now: float
) -> Chart:
    last = int(now // STEP) * STEP
    first = last + STEP - SPAN
    columns = {item.time // STEP * STEP: item.machines for item in history}
    columns = {time: found for time, found in columns.items() if first <= time < last}
    columns[last] = dict(current)
    top = max(sum(machines.values()) for machines in columns.values()) or 1
    bars = []
    for time, machines in columns.items():
        when = "now" if time == last else moment(time, now).text
        floor = HEIGHT
        for name, colour in colours.items():
            if count := machines.get(name, 0):
                height = HEIGHT * count / top
                floor -= height
                words = f"{when}: {count:,} {name or 'unknown'}"
                bars.append(Bar(_across(time - first), floor, _across(STEP), height, colour, words))
    whole = sum(current.values())
    shares = (
        Share(name or "unknown", colour, count, percent(count, whole))
        for name, colour in colours.items()
        if (count := current.get(name, 0))
    )
    return Chart(tuple(bars), tuple(shares), top, moment(first, now).text)


def _across(seconds: float) -> float:
    return WIDTH * seconds / SPAN
