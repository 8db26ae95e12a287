"""Which upstream connections a fill needs: one pure function.

A cursor is one upstream connection that fills a hole from its start on and stops where filled bytes begin.

1. Where a reader waits and no cursor will come by soon, one is opened there. "Soon" is two seconds at the present
   rate, and never more than 16 MiB.
2. When no reader waits for anything that is not on its way, one cursor fills the first hole: a fill finishes by itself.
3. There are at most `limit` cursors. Where a waiting reader needs one and there is none left, a cursor that no reader
   waits for makes room; the new one is opened when the old one has gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from omaha_mirror.cache.intervals import Intervals

SOON_SECONDS = 2.0
NEAR_AT_LEAST = 256 * 1024
NEAR_AT_MOST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Span:
    """A cursor's place: it has filled up to `position` and will stop at `stop` at the latest.

    `ahead` bytes more have arrived and are on their way to the disk.
    """

    position: int
    stop: int
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change: spans to open a cursor for, and indexes of cursors to stop.

    `short` says that a reader needs a cursor and must wait for one to end or to be free.
    """

    open: tuple[Span, ...] = ()
    stop: tuple[int, ...] = ()
    short: bool = False


def near(rate: float) -> int:
    """How far ahead of a cursor a reader may wait, in bytes, at `rate` bytes a second."""
    return int(min(NEAR_AT_MOST, max(NEAR_AT_LEAST, SOON_SECONDS * rate)))


def comes_by(cursor: Span, offset: int, rate: float) -> bool:
    """Whether `cursor` will fill `offset` soon."""
    reach = cursor.position + cursor.ahead + near(rate)
    return cursor.position <= offset < min(cursor.stop, reach)


def plan(
    *,
    size: int,
    filled: Intervals,
    cursors: Sequence[Span],
    wanted: Collection[int],
    rate: float,
    limit: int,
) -> Plan:
    """Decide which cursors to open and to stop.

    Args:
        size: size of the blob in bytes.
        filled: what is there.
        cursors: the running ones.
        wanted: unfilled offsets that readers wait for.
        rate: present rate of the fill in bytes a second, 0 when not known.
        limit: how many cursors there may be, at least 1.
    """
    missing = sorted({offset for offset in wanted if 0 <= offset < size and offset not in filled})
    opened: list[Span] = []
    stopped: list[int] = []
    short = False
    for offset in missing:
        running = [*cursors, *opened]
        if any(comes_by(c, offset, rate) for c in running):
            continue
        if len(running) >= limit:
            short = True
            idle = _idle(cursors, stopped, missing, rate)
            if idle is None:
                break
            stopped.append(idle)
            continue
        if opened and opened[-1].stop > offset:
            opened[-1] = Span(opened[-1].position, offset)
        opened.append(_hole(offset, size, filled, cursors))
    if not opened and not missing and not cursors:
        opened += [Span(*gap) for gap in islice(filled.gaps(0, size), 1)]
    return Plan(tuple(opened), tuple(stopped), short)


def _hole(offset: int, size: int, filled: Intervals, cursors: Sequence[Span]) -> Span:
    """From `offset` to where filled bytes or another cursor begin."""
    stop = filled.next_start(offset, size)
    return Span(offset, min([stop, *(c.position for c in cursors if c.position > offset)]))


def _idle(
    cursors: Sequence[Span], stopped: Collection[int], missing: Sequence[int], rate: float
) -> int | None:
    for i, cursor in enumerate(cursors):
        if i not in stopped and not any(comes_by(cursor, offset, rate) for offset in missing):
            return i
    return None
