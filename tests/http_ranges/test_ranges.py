"""RFC 9110, section 14."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.http_ranges import ByteRange, Unsatisfiable, Whole, parse_range

HUGE = "9" * 6000


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-1112", 0, 1113),
        ("bytes=0-0", 0, 1),
        ("bytes=500-", 500, 10_000),
        ("bytes=9999-9999", 9999, 10_000),
        ("bytes=9000-20000", 9000, 10_000),
        (f"bytes=9000-{HUGE}", 9000, 10_000),
        ("bytes=00000000000000000000000000000005-06", 5, 7),
        ("bytes=-1", 9999, 10_000),
        ("bytes=-10000", 0, 10_000),
        ("bytes=-10001", 0, 10_000),
        (f"bytes=-{HUGE}", 0, 10_000),
        ("BYTES=5-6", 5, 7),
        ("bytes=,5-6", 5, 7),
        ("bytes=5-6 , ,", 5, 7),
        ("bytes= 5-6\t", 5, 7),
    ],
)
def test_a_range_is_what_it_says(header: str, start: int, stop: int) -> None:
    assert parse_range(header, 10_000) == ByteRange(start, stop)


@pytest.mark.parametrize(
    "header", ["bytes=10000-", f"bytes={HUGE}-", "bytes=10000-10001", "bytes=-0", "bytes=-000"]
)
def test_a_range_without_a_byte_of_the_file_is_unsatisfiable(header: str) -> None:
    assert parse_range(header, 10_000) == Unsatisfiable()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=5",
        "bytes=6-5",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=1--2",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=1 - 2",
        "bytes =1-2",
        "bytes:1-2",
        "bytes=1-2;3-4",
        "bytes=\u0661-\u0662",
        "bytes=1-2\n",
        "seconds=1-2",
        "byte\u017f=1-2",
    ],
)
def test_a_range_that_cannot_be_read_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10_000) == Whole()


@pytest.mark.parametrize(
    "header", ["bytes=0-1,4-5", "bytes=0-1, 20000-", "bytes=0-,-1", "bytes=20000-,-0"]
)
def test_several_ranges_are_answered_with_the_whole(header: str) -> None:
    assert parse_range(header, 10_000) == Whole()


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("bytes=0-", Unsatisfiable()),
        ("bytes=0-0", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=-5", Whole()),
    ],
)
def test_an_empty_file_has_no_range(header: str, answer: Whole | Unsatisfiable) -> None:
    assert parse_range(header, 0) == answer


def test_content_range_counts_from_zero_and_includes_the_last_byte() -> None:
    assert ByteRange(0, 1113).content_range(5000) == "bytes 0-1112/5000"
    assert ByteRange(0, 1113).length == 1113
    assert Unsatisfiable().content_range(5000) == "bytes */5000"


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 250))
def test_a_range_is_the_slice_of_the_file(first: int, last: int, size: int) -> None:
    """Python's slices, which clip alike, are the judge."""
    body = bytes(index % 256 for index in range(size))
    answer = parse_range(f"bytes={first}-{last}", size)
    if isinstance(answer, ByteRange):
        assert body[answer.start : answer.stop] == body[first : last + 1]
        assert 0 <= answer.start < answer.stop <= size
    else:
        assert answer == (Whole() if first > last else Unsatisfiable())
        assert not body[first : last + 1]


@given(st.text(), st.integers(0, 10**12))
def test_any_text_gives_an_answer(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        answer = parse_range(header, size)
        if isinstance(answer, ByteRange):
            assert 0 <= answer.start < answer.stop <= size
