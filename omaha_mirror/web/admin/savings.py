"""What the mirror saves its line, for the page and for the API. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omaha_mirror.fleet import Served

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
