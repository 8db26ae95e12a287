"""Validators, as the port knows them."""

import pytest

from omaha_mirror.upstream.errors import Dropped
from omaha_mirror.upstream.fetcher import Validator

OLD = "Mon, 06 Jan 2025 10:00:00 GMT"
MINUTE_LATER = "Mon, 06 Jan 2025 10:01:00 GMT"
SOON_LATER = "Mon, 06 Jan 2025 10:00:59 GMT"


@pytest.mark.parametrize(
    ("validator", "strong"),
    [
        (Validator(), None),
        (Validator(etag='"a"'), '"a"'),
        (Validator(etag='W/"a"'), None),
        (Validator(etag="a"), None),
        (Validator(etag='"'), None),
        (Validator(etag='W/"a"', last_modified=OLD, date=MINUTE_LATER), None),
        (Validator(last_modified=OLD, date=MINUTE_LATER), OLD),
        (Validator(last_modified=OLD, date=SOON_LATER), None),
        (Validator(last_modified=OLD), None),
        (Validator(last_modified="yesterday", date=MINUTE_LATER), None),
        (Validator(last_modified=OLD, date="now"), None),
    ],
)
def test_only_a_strong_validator_may_go_into_if_range(
    validator: Validator, strong: str | None
) -> None:
    assert validator.strong == strong


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Validator('"a"'), Validator('"a"'), True),
        (Validator('"a"'), Validator('W/"a"'), True),
        (Validator('"a"'), Validator('"b"'), False),
        (Validator('"a"', OLD), Validator('"b"', OLD), False),
        (Validator('"a"', OLD), Validator(None, OLD), True),
        (Validator(None, OLD), Validator(None, MINUTE_LATER), False),
        (Validator(None, OLD, OLD), Validator(None, OLD, MINUTE_LATER), True),
        (Validator('"a"'), Validator(None, OLD), True),
        (Validator(), Validator('"a"'), True),
    ],
)
def test_generations_differ_where_a_common_validator_does(
    one: Validator, other: Validator, same: bool
) -> None:
    assert one.same(other) is same
    assert other.same(one) is same


def test_an_error_names_the_place_without_its_secrets() -> None:
    error = Dropped("the connection died", "https://me:word@example.org:81/a?token=x#y")
    assert str(error) == "the connection died (https://example.org:81/a)"
    assert str(Dropped("it died", "http://[")) == "it died (an address that cannot be read)"
