"""What is asked, what an answer means, and when to ask again."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from omaha_mirror.upstream.errors import BadAnswer, BadStatus, Changed, Gone, UpstreamError
from omaha_mirror.upstream.fetcher import Validator
from omaha_mirror.upstream.resume import BodyPart, backoff, judge, request_headers

A, B, WEAK = Validator('"a"'), Validator('"b"'), Validator('W/"a"')
DATE = "Mon, 06 Jan 2025 10:00:00 GMT"


@pytest.mark.parametrize(
    ("start", "stop", "validator", "headers"),
    [
        (0, None, None, {}),
        (0, None, A, {}),
        (7, None, None, {"Range": "bytes=7-"}),
        (7, None, A, {"Range": "bytes=7-", "If-Range": '"a"'}),
        (0, 8, A, {"Range": "bytes=0-7", "If-Range": '"a"'}),
        (7, 8, WEAK, {"Range": "bytes=7-7"}),
    ],
)
def test_what_is_asked(
    start: int, stop: int | None, validator: Validator | None, headers: dict[str, str]
) -> None:
    assert request_headers(start, stop, validator) == headers


def asked(
    status: int, headers: dict[str, str], start: int = 0, stop: int | None = None, **known: Any
) -> BodyPart:
    arguments = {"size": None, "validator": None} | known
    return judge("http://x/y", status, CIMultiDict(headers), start=start, stop=stop, **arguments)


WHOLE = {"content-length": "100", "etag": '"a"'}


def part(span: str, etag: str = '"a"') -> dict[str, str]:
    return {"content-range": f"bytes {span}", "etag": etag}


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (asked(200, WHOLE), BodyPart(0, 100, 100, A)),
        (asked(200, WHOLE, size=100), BodyPart(0, 100, 100, A)),
        (asked(200, {}, size=100), BodyPart(0, 100, 100, Validator())),
        (asked(200, WHOLE, validator=A), BodyPart(0, 100, 100, A)),
        (asked(206, part("40-99/100"), 40), BodyPart(40, 100, 100, A)),
        (asked(206, part("40-99/100"), 40, validator=A, size=100), BodyPart(40, 100, 100, A)),
        (asked(206, part("40-99/*"), 40, size=100), BodyPart(40, 100, 100, A)),
        (asked(206, part("40-49/100"), 40, 50), BodyPart(40, 50, 100, A)),
        # A stop beyond the end is the end.
        (asked(206, part("40-99/100"), 40, 500), BodyPart(40, 100, 100, A)),
        # Longer than asked: clipped. Shorter: the stop stays, the body will end before it.
        (asked(206, part("40-99/100"), 40, 50), BodyPart(40, 50, 100, A)),
        (asked(206, part("40-49/100"), 40), BodyPart(40, 100, 100, A)),
        # Ranges ignored by a server that has what we hold, or when nothing is held.
        (asked(200, WHOLE, 40), BodyPart(0, 100, 100, A)),
        (asked(200, WHOLE, 40, 50, validator=A), BodyPart(0, 50, 100, A)),
        (asked(200, {"content-length": "100", "etag": 'W/"a"'}, 40, validator=WEAK), BodyPart(0, 100, 100, WEAK)),
        # A 206 confirms If-Range even when it does not repeat the validator.
        (asked(206, {"content-range": "bytes 40-99/100"}, 40, validator=A), BodyPart(40, 100, 100, Validator())),
    ],
)  # fmt: skip
def test_an_answer_that_continues_is_delivered(verdict: BodyPart, expected: BodyPart) -> None:
    assert verdict == expected


@pytest.mark.parametrize(
    ("status", "headers", "start", "known"),
    [
        (200, WHOLE, 40, {"validator": B}),
        (200, {"content-length": "100"}, 40, {"validator": A}),
        (200, {"content-length": "100", "etag": 'W/"a"'}, 40, {"validator": A}),
        (200, WHOLE, 40, {"size": 101}),
        (200, WHOLE, 0, {"size": 99}),
        (200, WHOLE, 0, {"validator": B}),
        (206, part("40-99/100"), 40, {"validator": B}),
        (206, part("40-99/100"), 40, {"size": 101}),
        (416, {"content-range": "bytes */30"}, 40, {"size": 100}),
    ],
)
def test_another_generation_is_changed(
    status: int, headers: dict[str, str], start: int, known: dict[str, Any]
) -> None:
    with pytest.raises(Changed):
        asked(status, headers, start, **known)


@pytest.mark.parametrize(
    ("status", "headers", "start"),
    [
        (206, {}, 40),
        (206, part("41-99/100"), 40),
        (206, part("0-99/100"), 40),
        (206, part("40-39/100"), 40),
        (206, part("40-100/100"), 40),
        (206, part("40-99"), 40),
        (206, part("*/100"), 40),
        (206, {"content-range": "items 40-99/100"}, 40),
        (206, part("40-" + "9" * 5000 + "/*"), 40),
        (206, part("40-99/*"), 40),
        (206, part("40-99/100") | {"content-length": "61"}, 40),
        (200, {}, 0),
        (200, {"content-length": "-1"}, 0),
        (200, {"content-length": "9" * 5000}, 0),
        (200, WHOLE | {"content-encoding": "gzip"}, 0),
        (206, part("40-99/100") | {"content-encoding": "br"}, 40),
    ],
)
def test_an_answer_that_cannot_be_placed_is_bad(
    status: int, headers: dict[str, str], start: int
) -> None:
    with pytest.raises(BadAnswer):
        asked(status, headers, start)


@pytest.mark.parametrize("status", [404, 410])
def test_a_definite_absence_is_gone(status: int) -> None:
    with pytest.raises(Gone):
        asked(status, {}, 40, size=100)


@pytest.mark.parametrize("status", [201, 204, 304, 400, 403, 416, 429, 500, 502, 503, 504])
def test_any_other_status_is_bad(status: int) -> None:
    with pytest.raises(BadStatus) as caught:
        asked(status, WHOLE)
    assert caught.value.status == status


def test_a_part_that_nobody_asked_for_is_bad() -> None:
    with pytest.raises(BadStatus):
        asked(206, part("0-99/100"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "99999"}, 120.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "Mon, 06 Jan 2025 10:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Mon, 06 Jan 2025 09:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Mon, 06 Jan 2026 09:00:00 GMT", "date": DATE}, 120.0),
        ({"retry-after": "Mon, 06 Jan 2025 10:00:30 GMT"}, None),
        ({"retry-after": "soon", "date": DATE}, None),
    ],
)
def test_retry_after_is_bounded(headers: dict[str, str], seconds: float | None) -> None:
    with pytest.raises(BadStatus) as caught:
        asked(503, headers)
    assert caught.value.retry_after == seconds


def test_the_pause_doubles_up_to_its_cap_with_jitter() -> None:
    for attempt, full in enumerate([0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]):
        pauses = [backoff(attempt, random.Random(seed)) for seed in range(50)]
        assert full / 2 <= min(pauses) < max(pauses) <= full
    assert backoff(10**9, random.Random(1)) <= 5.0


def test_retry_after_is_honoured_up_to_thirty_seconds() -> None:
    rng = random.Random(1)
    assert backoff(0, rng, 7.0) == 7.0
    assert backoff(0, rng, 120.0) == 30.0
    assert backoff(6, rng, 0.1) >= 2.5


@given(
    st.sampled_from([200, 206, 404, 416, 503]),
    st.dictionaries(
        st.sampled_from(["content-range", "content-length", "etag", "retry-after", "date"]),
        st.one_of(
            st.text(max_size=12), st.sampled_from(["bytes 4-9/10", "bytes 0-9/10", "10", DATE])
        ),
    ),
    st.integers(0, 9),
    st.none() | st.integers(10, 12),
    st.none() | st.just(10),
)
def test_whatever_comes_the_bytes_asked_for_are_within_the_file(
    status: int, headers: dict[str, str], start: int, stop: int | None, size: int | None
) -> None:
    try:
        verdict = asked(status, headers, start, stop, size=size, validator=A)
    except UpstreamError:
        return
    assert verdict.first in (0, start)
    assert verdict.stop <= verdict.size
    assert size in (None, verdict.size)
