"""A schedule that fails becomes a small one that still does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.sim.run import run
from tests.sim.schedule import Link, Schedule, Settings

T = TypeVar("T")


def kinds(problems: Sequence[str]) -> set[str]:
    """Which invariants do not hold."""
    return {problem.partition(":")[0] for problem in problems}


def fails_alike(problems: Sequence[str]) -> Callable[[Schedule], bool]:
    """Whether a schedule breaks one of the invariants that are broken there."""
    broken = kinds(problems)
    return lambda schedule: bool(broken & kinds(run(schedule).problems))


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Leave out whatever is not needed for it to fail."""
    while (smaller := next(filter(fails, _smaller(schedule)), None)) is not None:
        schedule = smaller
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules with less in them, those that lack most first."""
    for events in _fewer(schedule.events):
        yield replace(schedule, events=events)
    for machines in _fewer(schedule.machines):
        yield replace(schedule, machines=machines)
    if schedule.settings != Settings():
        yield replace(schedule, settings=Settings())
    for at, machine in enumerate(schedule.machines):
        plain = replace(machine, stops=(), link=Link())
        if plain != machine:
            before, after = schedule.machines[:at], schedule.machines[at + 1 :]
            yield replace(schedule, machines=(*before, plain, *after))


def _fewer(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """All but a half of them, all but a quarter, and so on down to one."""
    size = (len(items) + 1) // 2
    while size:
        for start in range(0, len(items), size):
            yield (*items[:start], *items[start + size :])
        size //= 2
