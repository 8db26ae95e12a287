"""RFC 9110, section 13."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from omaha_mirror.http_ranges import (
    ByteRange,
    Precondition,
    Unsatisfiable,
    Whole,
    evaluate,
    http_date,
    if_range_holds,
    select,
)

ETAG = '"8f43"'
THEN = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
MTIME = 784111777.9
GO, SAME, FAIL = Precondition.PROCEED, Precondition.NOT_MODIFIED, Precondition.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, GO),
        ({"If-Match": ETAG}, GO),
        ({"If-Match": "*"}, GO),
        ({"If-Match": ' "a" , "8f43"'}, GO),
        ({"If-Match": ',,"8f43",'}, GO),
        ({"If-Match": '"a"'}, FAIL),
        ({"If-Match": 'W/"8f43"'}, FAIL),
        ({"If-Match": "8f43"}, FAIL),
        ({"If-Match": '"8f43" "a"'}, FAIL),
        ({"If-Match": ""}, FAIL),
        ({"If-Unmodified-Since": THEN}, GO),
        ({"If-Unmodified-Since": AFTER}, GO),
        ({"If-Unmodified-Since": BEFORE}, FAIL),
        ({"If-Unmodified-Since": "yesterday"}, GO),
        ({"If-None-Match": ETAG}, SAME),
        ({"If-None-Match": 'W/"8f43"'}, SAME),
        ({"If-None-Match": '"a,b","8f43"'}, SAME),
        ({"If-None-Match": "*"}, SAME),
        ({"If-None-Match": '"a"'}, GO),
        ({"If-None-Match": "8f43"}, GO),
        ({"If-None-Match": 'w/"8f43"'}, GO),
        ({"If-Modified-Since": THEN}, SAME),
        ({"If-Modified-Since": AFTER}, SAME),
        ({"If-Modified-Since": BEFORE}, GO),
        ({"If-Modified-Since": "0"}, GO),
    ],
)
def test_each_condition_of_a_get(headers: dict[str, str], answer: Precondition) -> None:
    assert evaluate("GET", headers, etag=ETAG, last_modified=MTIME) is answer
    assert evaluate("HEAD", headers, etag=ETAG, last_modified=MTIME) is answer


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"If-Match": ETAG, "If-Unmodified-Since": BEFORE}, GO),
        ({"If-None-Match": '"a"', "If-Modified-Since": THEN}, GO),
        ({"If-Match": '"a"', "If-None-Match": ETAG}, FAIL),
        ({"If-Match": ETAG, "If-None-Match": ETAG}, SAME),
        ({"If-Unmodified-Since": BEFORE, "If-None-Match": ETAG}, FAIL),
        ({"If-Unmodified-Since": THEN, "If-Modified-Since": THEN}, SAME),
    ],
)
def test_conditions_together_go_by_the_order_of_the_rfc(
    headers: dict[str, str], answer: Precondition
) -> None:
    assert evaluate("GET", headers, etag=ETAG, last_modified=MTIME) is answer


def test_a_match_fails_a_request_that_would_write() -> None:
    assert evaluate("PUT", {"If-None-Match": "*"}, etag=ETAG, last_modified=MTIME) is FAIL
    assert evaluate("PUT", {"If-Modified-Since": THEN}, etag=ETAG, last_modified=MTIME) is GO


def test_a_file_without_validators_fits_no_tag_and_ignores_dates() -> None:
    def answer(name: str, value: str) -> Precondition:
        return evaluate("GET", {name: value}, etag=None, last_modified=None)

    assert answer("If-Match", ETAG) is FAIL
    assert answer("If-Match", "*") is GO
    assert answer("If-None-Match", ETAG) is GO
    assert answer("If-Modified-Since", AFTER) is GO
    assert answer("If-Unmodified-Since", BEFORE) is GO


def test_a_weak_tag_of_ours_is_never_strongly_equal() -> None:
    weak = 'W/"8f43"'
    assert evaluate("GET", {"If-Match": weak}, etag=weak, last_modified=None) is FAIL
    assert evaluate("GET", {"If-None-Match": ETAG}, etag=weak, last_modified=None) is SAME
    assert not if_range_holds(weak, etag=weak)


@pytest.mark.parametrize(
    ("if_range", "holds"),
    [
        (None, True),
        (ETAG, True),
        ('"a"', False),
        ('W/"8f43"', False),
        ('"8f43","a"', False),
        ("*", False),
        ("8f43", False),
        ("", False),
        (THEN, True),
        (BEFORE, False),
        (AFTER, False),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("yesterday", False),
    ],
)
def test_if_range_holds_only_on_an_exact_match(if_range: str | None, holds: bool) -> None:
    assert if_range_holds(if_range, etag=ETAG, last_modified=MTIME) is holds


def test_a_date_in_if_range_needs_a_date_of_ours() -> None:
    assert not if_range_holds(THEN, etag=ETAG, last_modified=None)


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, Whole()),
        ({"range": "bytes=5-"}, ByteRange(5, 100)),
        ({"range": "bytes=5-", "if-range": ETAG}, ByteRange(5, 100)),
        ({"range": "bytes=5-", "if-range": '"old"'}, Whole()),
        ({"range": "bytes=500-", "if-range": '"old"'}, Whole()),
        ({"range": "bytes=500-"}, Unsatisfiable()),
        ({"if-range": ETAG}, Whole()),
    ],
)
def test_a_range_counts_only_if_if_range_holds(
    headers: dict[str, str], answer: Whole | ByteRange | Unsatisfiable
) -> None:
    assert select(CIMultiDict(headers), size=100, etag=ETAG) == answer


@pytest.mark.parametrize(
    "text", [THEN, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms_of_a_date_are_one_instant_in_any_time_zone(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date(text) == 784111777
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        f"{THEN}, {THEN}",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert http_date(text) is None


@given(st.text(alphabet='W/"a*, \t\x00\xff-:GMT0'))
def test_any_text_in_any_field_gives_an_answer(text: str) -> None:
    for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
        assert isinstance(
            evaluate("GET", {name: text}, etag=ETAG, last_modified=MTIME), Precondition
        )
    assert if_range_holds(text, etag=ETAG, last_modified=MTIME) in (True, False)
