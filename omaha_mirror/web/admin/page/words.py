"""Numbers and times in words for people. Times are UTC, and never without their age."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from omaha_mirror.text import ago, iso, minute


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: for machines (ISO 8601), as text, and how long ago it was."""

    iso: str
    text: str
    age: str


def moment(time: float, now: float) -> Moment:
    """A time in seconds since the epoch."""
    return Moment(iso(time), minute(time), ago(now - time))


def percent(part: float, whole: float) -> int:
    """Rounded down, so that only the whole is 100."""
    return int(100 * part / whole) if whole else 0


def file_of(url: str) -> str:
    """The part of a package's address that tells it from others: board, version and name."""
    return "/".join(urlsplit(url).path.split("/")[-3:])
