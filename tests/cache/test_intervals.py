"""Intervals behave as the set of their offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.cache.intervals import Intervals

SIZE = 40
offsets = st.integers(0, SIZE)
spans = st.tuples(offsets, offsets)
span_lists = st.lists(spans, max_size=8)


def model(given_spans: list[tuple[int, int]]) -> set[int]:
    return {offset for start, stop in given_spans for offset in range(start, stop)}


def members(intervals: Intervals) -> set[int]:
    return model(list(intervals))


@given(span_lists)
def test_spans_are_sorted_disjoint_and_joined(spans: list[tuple[int, int]]) -> None:
    intervals = Intervals(spans)
    edges = [edge for span in intervals for edge in span]
    assert edges == sorted(set(edges))
    assert members(intervals) == model(spans)
    assert intervals.total == len(model(spans))
    assert len(intervals) == len(edges) // 2


@given(span_lists, spans)
def test_add_remove_and_clip(spans: list[tuple[int, int]], other: tuple[int, int]) -> None:
    intervals, span = Intervals(spans), set(range(*other))
    assert members(intervals.add(*other)) == model(spans) | span
    assert members(intervals.remove(*other)) == model(spans) - span
    assert members(intervals.clip(*other)) == model(spans) & span
    assert members(intervals) == model(spans), "the original is not changed"


@given(span_lists, offsets)
def test_run_end_and_next_start(spans: list[tuple[int, int]], offset: int) -> None:
    intervals, there = Intervals(spans), model(spans)
    end = offset
    while end in there:
        end += 1
    assert intervals.run_end(offset) == end
    assert (offset in intervals) == (offset in there)
    assert intervals.next_start(offset, 99) == min((o for o in there if o >= offset), default=99)


@given(span_lists, spans)
def test_gaps(spans: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    intervals, missing = Intervals(spans), set(range(*asked)) - model(spans)
    gaps = list(intervals.gaps(*asked))
    assert model(gaps) == missing
    assert gaps == list(Intervals(gaps)), "in order, none empty, none touching"


@given(span_lists, span_lists)
def test_equal_sets_are_equal_and_hash_alike(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    same = model(a) == model(b)
    assert (Intervals(a) == Intervals(b)) == same
    if same:
        assert hash(Intervals(a)) == hash(Intervals(b))


def test_an_interval_set_shows_its_spans() -> None:
    assert repr(Intervals([(3, 5), (0, 1)])) == "Intervals([(0, 1), (3, 5)])"
    assert Intervals([(0, 1)]) != [(0, 1)]


@pytest.mark.parametrize("empty", [Intervals(), Intervals([(3, 3)]), Intervals([(5, 2)])])
def test_empty_spans_vanish(empty: Intervals) -> None:
    assert not empty
    assert list(empty.gaps(0, 2)) == [(0, 2)]
