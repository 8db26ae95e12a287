"""Numbers and times in words for people. Times are UTC, and never without their age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

UNITS = ("KiB", "MiB", "GiB", "TiB")
SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: for machines (ISO 8601), as text, and how long ago it was."""

    iso: str
    text: str
    age: str


def moment(time: float, now: float) -> Moment:
    """A time in seconds since the epoch."""
    when = datetime.fromtimestamp(time, UTC)
    age = now - time
    words = f"{span(age)} ago" if age >= 60 else "just now"
    return Moment(when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M UTC"), words)


def span(seconds: float) -> str:
    """A length of time by its greatest unit: `3 minutes`."""
    for unit, name in SPANS:
        if (count := int(seconds // unit)) > 0:
            return some(count, name)
    return "less than a second"


def some(count: int, what: str) -> str:
    """`1 machine`, `1,000 machines`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes, to three digits or so: `1.4 GiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in UNITS:
        count /= 1024
        if count < 1000 or unit == UNITS[-1]:
            break
    return f"{count:.0f} {unit}" if count >= 100 else f"{count:.1f} {unit}"


def percent(part: float, whole: float) -> int:
    """Rounded down, so that only the whole is 100."""
    return int(100 * part / whole) if whole else 0


def file_of(url: str) -> str:
    """The part of a package's address that tells it from others: board, version and name."""
    return "/".join(urlsplit(url).path.split("/")[-3:])
