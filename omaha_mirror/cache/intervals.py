"""Sets of byte offsets as sorted, disjoint, half-open intervals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """An immutable set of offsets; adjacent intervals are joined.

    A fill has a handful of intervals (one a cursor), so copying is cheaper than being clever, and a snapshot can be
    handed to a worker thread as it is.
    """

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(spans):
            if start >= stop:
                continue
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
            else:
                joined.append((start, stop))
        self._spans = tuple(joined)

    def add(self, start: int, stop: int) -> Intervals:
        """This set and [start, stop)."""
        return Intervals((*self._spans, (start, stop)))

    def remove(self, start: int, stop: int) -> Intervals:
        """This set without [start, stop)."""
        kept: list[tuple[int, int]] = []
        for a, b in self._spans:
            kept += [(a, min(b, start)), (max(a, stop), b)]
        return Intervals(kept)

    def clip(self, start: int, stop: int) -> Intervals:
        """The part of this set inside [start, stop)."""
        return Intervals((max(a, start), min(b, stop)) for a, b in self._spans)

    def run_end(self, offset: int) -> int:
        """Where the interval that holds `offset` ends; `offset` itself when it is not in the set."""
        i = bisect_right(self._spans, offset, key=lambda span: span[0]) - 1
        if i >= 0 and offset < self._spans[i][1]:
            return self._spans[i][1]
        return offset

    def next_start(self, offset: int, default: int) -> int:
        """The first offset >= `offset` in the set, or `default`."""
        if self.run_end(offset) > offset:
            return offset
        i = bisect_right(self._spans, offset, key=lambda span: span[0])
        return self._spans[i][0] if i < len(self._spans) else default

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What [start, stop) has that this set has not, in order."""
        at = start
        for a, b in self._spans:
            if b <= at:
                continue
            if a >= stop:
                break
            if a > at:
                yield at, a
            at = b
        if at < stop:
            yield at, stop

    @property
    def total(self) -> int:
        """How many offsets the set holds."""
        return sum(stop - start for start, stop in self._spans)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, offset: int) -> bool:
        return self.run_end(offset) > offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def __repr__(self) -> str:
        return f"Intervals({list(self._spans)})"


NOTHING = Intervals()
