"""Which cursors run: the table of cases, and what must hold whatever readers do."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.cache.cursor import CursorSpan
from omaha_mirror.cache.cursors import (
    NEAR_AT_LEAST,
    NEAR_AT_MOST,
    Plan,
    comes_by,
    near,
    plan,
)
from omaha_mirror.cache.intervals import Intervals

UNIT = NEAR_AT_LEAST // 4
SIZE = 100


def units(
    *, filled: list[tuple[int, int]], cursors: list[tuple[int, int]], wanted: set[int], limit: int
) -> Plan:
    """`plan` with all offsets in units of a quarter of the nearest distance."""
    return plan(
        size=SIZE * UNIT,
        filled=Intervals((a * UNIT, b * UNIT) for a, b in filled),
        cursors=[CursorSpan(a * UNIT, b * UNIT) for a, b in cursors],
        wanted={offset * UNIT for offset in wanted},
        rate=0.0,
        limit=limit,
    )


def spans(*pairs: tuple[int, int]) -> tuple[CursorSpan, ...]:
    return tuple(CursorSpan(a * UNIT, b * UNIT) for a, b in pairs)


@pytest.mark.parametrize(
    ("filled", "cursors", "wanted", "limit", "expected"),
    [
        pytest.param([], [], {0}, 4, Plan(spans((0, 100))), id="cold: from the start"),
        pytest.param([], [], {80}, 4, Plan(spans((80, 100))), id="cold: a far range first"),
        pytest.param([], [(0, 100)], {3}, 4, Plan(), id="near: the cursor comes by"),
        pytest.param([], [(0, 100)], {4}, 4, Plan(spans((4, 100))), id="far: another cursor"),
        pytest.param([], [(0, 2)], {2}, 4, Plan(spans((2, 100))), id="the cursor stops before"),
        pytest.param([], [(0, 100)], {50, 52}, 4, Plan(spans((50, 100))), id="one for two"),
        pytest.param([], [], {0, 50}, 4, Plan(spans((0, 50), (50, 100))), id="two do not overlap"),
        pytest.param([(60, 70)], [], {50}, 4, Plan(spans((50, 60))), id="up to filled bytes"),
        pytest.param([], [(60, 100)], {50}, 4, Plan(spans((50, 60))), id="up to a cursor"),
        pytest.param([(0, 100)], [], {7}, 4, Plan(), id="filled bytes need nobody"),
        pytest.param([], [(0, 100)], {100, -1}, 4, Plan(), id="outside of the blob"),
        pytest.param([(0, 9)], [], set(), 4, Plan(spans((9, 100))), id="a fill finishes by itself"),
        pytest.param([(9, 100)], [], set(), 4, Plan(spans((0, 9))), id="the hole is filled last"),
        pytest.param(
            [], [(30, 100)], set(), 4, Plan(), id="one cursor is enough when nobody waits"
        ),
        pytest.param(
            [],
            [(0, 100)],
            {50},
            1,
            Plan(stop=(0,), short=True),
            id="who nobody waits for makes room",
        ),
        pytest.param([], [(0, 100)], {0, 50}, 1, Plan(short=True), id="who is waited for stays"),
        pytest.param(
            [],
            [(0, 40), (40, 100)],
            {10, 40, 70},
            2,
            Plan(stop=(0,), short=True),
            id="the lowest offset gets the place",
        ),
    ],
)
def test_plan(
    filled: list[tuple[int, int]],
    cursors: list[tuple[int, int]],
    wanted: set[int],
    limit: int,
    expected: Plan,
) -> None:
    assert units(filled=filled, cursors=cursors, wanted=wanted, limit=limit) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.0, NEAR_AT_LEAST), (1e6, 2_000_000), (1e12, NEAR_AT_MOST)],
)
def test_near_is_two_seconds_of_the_line_within_bounds(rate: float, expected: int) -> None:
    assert near(rate) == expected


@pytest.mark.parametrize(
    ("ahead", "stop", "offset", "expected"),
    [
        (0, 100, 0, True),
        (0, 100, 3, True),
        (0, 100, 4, False),
        (9, 100, 12, True),
        (9, 100, 13, False),
        (9, 10, 10, False),
        (0, 100, -1, False),
    ],
)
def test_near_begins_where_bytes_have_arrived(
    ahead: int, stop: int, offset: int, expected: bool
) -> None:
    cursor = CursorSpan(0, stop * UNIT, ahead * UNIT)
    assert comes_by(cursor, offset * UNIT, 0.0) == expected


@dataclass
class World:
    """A fill that does as the plan says."""

    limit: int
    filled: Intervals = field(default_factory=Intervals)
    cursors: list[CursorSpan] = field(default_factory=list)

    def obey(self, wanted: set[int]) -> Plan:
        decided = plan(
            size=SIZE * UNIT,
            filled=self.filled,
            cursors=self.cursors,
            wanted=wanted,
            rate=0.0,
            limit=self.limit,
        )
        assert len(self.cursors) + len(decided.open) <= max(self.limit, len(self.cursors))
        kept = [c for i, c in enumerate(self.cursors) if i not in decided.stop]
        for opened in decided.open:
            kept = [
                CursorSpan(c.position, opened.position)
                if c.position < opened.position < c.stop
                else c
                for c in kept
            ]
        self.cursors = [*kept, *decided.open]
        return decided

    def advance(self, index: int, count: int) -> None:
        cursor = self.cursors.pop(index % len(self.cursors))
        bound = min(cursor.stop, self.filled.next_start(cursor.position, SIZE * UNIT))
        position = min(cursor.position + count * UNIT, bound)
        self.filled = self.filled.add(cursor.position, position)
        if position < bound:
            self.cursors.append(CursorSpan(position, cursor.stop))


turns = st.tuples(
    st.sets(st.integers(0, SIZE - 1), max_size=6), st.integers(0, 9), st.integers(1, 30)
)


@given(st.integers(1, 4), st.lists(turns, max_size=25))
def test_whatever_readers_want(limit: int, turns: list[tuple[set[int], int, int]]) -> None:
    """No byte has two cursors, there are never more than the limit, and nobody is forgotten."""
    world = World(limit)
    for wanted_units, index, count in turns:
        wanted = {o * UNIT for o in wanted_units if o * UNIT not in world.filled}
        decided = world.obey(wanted)
        assert len(world.cursors) <= limit
        ordered = sorted(world.cursors, key=lambda c: c.position)
        for a, b in pairwise(ordered):
            assert a.stop <= b.position, "two cursors for one byte"
        served = all(any(comes_by(c, offset, 0.0) for c in world.cursors) for offset in wanted)
        assert served != decided.short
        if decided.short and not decided.stop:
            assert all(any(comes_by(c, o, 0.0) for o in wanted) for c in world.cursors)
        if world.cursors:
            world.advance(index, count)


@given(st.integers(1, 4), st.lists(turns, max_size=10))
def test_a_fill_always_finishes(limit: int, turns: list[tuple[set[int], int, int]]) -> None:
    """When the readers have gone, every hole is filled."""
    world = World(limit)
    for wanted_units, index, count in turns:
        world.obey({o * UNIT for o in wanted_units})
        if world.cursors:
            world.advance(index, count)
    for _ in range(SIZE):
        world.obey(set())
        if not world.cursors:
            break
        world.advance(0, SIZE)
    assert world.filled == Intervals([(0, SIZE * UNIT)])
