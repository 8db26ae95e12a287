"""The top of the status page: the verdict, the savings and the fills. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from omaha_mirror.cache import Progress
from omaha_mirror.cache.events import FillEnded, Outcome
from omaha_mirror.fleet import Served, State
from omaha_mirror.observability.health import Health
from omaha_mirror.observability.health import State as Level
from omaha_mirror.text import size, some, span
from omaha_mirror.web.admin.page.rendering import Moment, file_of, moment, percent

DAY = 86400
SPANS = (1, 7, 30)
"""Days, today among them."""


@dataclass(frozen=True, slots=True)
class Saving:
    """What went to machines in some days, what came over the line for it, and what the line was spared, in bytes.

    Attributes:
        days: that count, today (UTC) among them.
        ratio: what was saved of what was served; null where nothing was.
    """

    days: int
    served: int
    fetched: int
    saved: int
    ratio: float | None


def first_day(days: int, now: float) -> int:
    """The first second of the first of some days, of which today (UTC) is the last."""
    return int(now // DAY) * DAY - (days - 1) * DAY


def savings(served: Sequence[Served], fetched: Mapping[int, int], now: float) -> tuple[Saving, ...]:
    """What was saved today, in 7 and in 30 days.

    Args:
        served: what went to machines, by day.
        fetched: bytes that came over the line, by the first second of each day.
        now: seconds since the epoch.
    """
    found = []
    for days in SPANS:
        first = first_day(days, now)
        sent = sum(row.bytes for row in served if row.day >= first)
        got = sum(count for day, count in fetched.items() if day >= first)
        saved = max(0, sent - got)
        found.append(Saving(days, sent, got, saved, saved / sent if sent else None))
    return tuple(found)


UNDER_WAY = (State.GRANTED, State.DOWNLOADING, State.DOWNLOADED, State.INSTALLED)
OUTCOMES = {
    Outcome.PROVEN: "arrived and verified",
    Outcome.WRONG: "wrong bytes, fetched again",
    Outcome.UNTRUSTED: "not signed as it must be",
    Outcome.FAILED: "failed",
    Outcome.STOPPED: "stopped",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the mirror in one line.

    Attributes:
        level: `ok`, `degraded` or `failed`.
        line: the verdict.
        reason: why.
        more: what else is not as it should be.
    """

    level: str
    line: str
    reason: str
    more: tuple[str, ...] = ()


def verdict(health: Health, states: Mapping[str, int] | None) -> Verdict:
    """The verdict by the health findings and the machines of the last day (None: not known)."""
    wrong = [
        f for level in (Level.FAILED, Level.DEGRADED) for f in health.findings if f.state is level
    ]
    troubles = tuple(f"{finding.name}: {finding.words}" for finding in wrong)
    if not health.ready:
        return Verdict("failed", "It cannot serve machines.", troubles[0], troubles[1:])
    failing = (states or {}).get(State.ERROR, 0)
    if failing:
        words = f"{some(failing, 'machine')} could not update: see the errors below"
        troubles = (*troubles, words)
    if troubles:
        return Verdict(
            "degraded", "It serves machines, but it is degraded.", troubles[0], troubles[1:]
        )
    if not states:
        return Verdict("ok", "It is ready.", "No machine has asked in the last day: point one here")
    return Verdict("ok", "All is well.", _machines(states))


def _machines(states: Mapping[str, int]) -> str:
    under_way = sum(states.get(state, 0) for state in UNDER_WAY)
    parts = (
        (states.get(State.COMPLETE, 0), "up to date"),
        (under_way, "updating"),
        (states.get(State.ON_HOLD, 0), "kept back"),
    )
    counted = [f"{count:,} {words}" for count, words in parts if count]
    seen = f"{some(sum(states.values()), 'machine')} seen in the last day"
    return f"{seen}: {', '.join(counted)}" if counted else seen


@dataclass(frozen=True, slots=True)
class SavingView:
    """What machines got in some days, and what of it the line did not have to carry."""

    days: str
    saved: str
    percent: int
    served: str
    fetched: str


def saving(saved: Saving) -> SavingView:
    """What was saved, in words."""
    return SavingView(
        days="Today" if saved.days == 1 else f"{saved.days} days",
        saved=size(saved.saved),
        percent=percent(saved.saved, saved.served),
        served=size(saved.served),
        fetched=size(saved.fetched),
    )


@dataclass(frozen=True, slots=True)
class FillView:
    """A fill that runs, or ended lately."""

    file: str
    size: str
    percent: int
    rate: str
    left: str
    waiting: str
    state: str
    level: str = "ok"
    ended: Moment | None = None
    reason: str = ""


def fill(progress: Progress) -> FillView:
    """A fill that runs."""
    left = progress.size - progress.filled
    state = "arriving"
    if progress.queued:
        state = f"number {progress.queued} in the queue"
    elif not left:
        state = "all here, being verified"
    elif not progress.rate:
        state = "waiting for upstream"
    moving = left and progress.rate > 0 and not progress.queued
    return FillView(
        file=file_of(progress.source),
        size=f"{size(progress.filled)} of {size(progress.size)}",
        percent=percent(progress.filled, progress.size),
        rate=f"{size(progress.rate)}/s" if moving else "",
        left=f"{span(left / progress.rate)} left" if moving else "",
        waiting=f"{some(progress.readers, 'client')} waiting"
        if progress.readers
        else "no client waiting",
        state=state,
    )


def ended(fills: Iterable[tuple[float, FillEnded]], now: float) -> list[FillView]:
    """Those that ended lately, the newest first; times are seconds since the epoch."""
    return [
        FillView(
            file=file_of(event.source),
            size=size(event.fetched),
            percent=100 if event.outcome is Outcome.PROVEN else 0,
            rate="",
            left="",
            waiting="",
            state=f"{OUTCOMES[event.outcome]} in {span(event.seconds)}",
            level="ok" if event.outcome is Outcome.PROVEN else "bad",
            ended=moment(time, now),
            reason=event.reason,
        )
        for time, event in reversed(list(fills))
    ]
