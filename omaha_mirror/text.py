"""Text for people: printable text from outside, times (UTC), ages, counts and sizes."""

from __future__ import annotations

from datetime import UTC, datetime

UNITS = ("KiB", "MiB", "GiB", "TiB")
SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def printable(text: str, limit: int = 200) -> str:
    """The first `limit` characters on one line, with U+FFFD for each character that is not printable."""
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def iso(time: float) -> str:
    """A time in seconds since the epoch by ISO 8601: `2026-11-23T20:21:00Z`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minute(time: float) -> str:
    """A time for people: `2026-11-23 20:21 UTC`."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "a time that is no date"


def ago(seconds: float) -> str:
    """An age: `3 minutes ago`, or `just now` within a minute."""
    return f"{span(seconds)} ago" if seconds >= 60 else "just now"


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
