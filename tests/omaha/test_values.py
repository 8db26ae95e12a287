"""Versions, digests and codes."""

import doctest
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import omaha_mirror.omaha
import omaha_mirror.omaha.codes
import omaha_mirror.omaha.values
from omaha_mirror.omaha import (
    BadDigest,
    BadVersion,
    Digest,
    ErrorCode,
    ErrorFlag,
    EventResult,
    EventType,
    Version,
    describe_error,
    describe_event,
)

ASCENDING = [
    "0.0.0",
    "766.0.0",
    "1068.10.0",
    "3815.2.0",
    "3815.2.5-1",
    "3815.2.5-2",
    "3815.2.5-11",
    "3815.2.5-alpha",
    "3815.2.5-alpha.1",
    "3815.2.5-alpha.beta",
    "3815.2.5-beta.2",
    "3815.2.5-beta.11",
    "3815.2.5-dev-main+x",
    "3815.2.5+nightly-20240101-2100",
    "3815.2.10",
    "3815.2.10.1",
    "4000.0.0-dev",
    "4000",
    "4230.2.1-github-pr-12",
    "4230.2.1",
]


def test_versions_have_one_order() -> None:
    for lower, higher in itertools.combinations(ASCENDING, 2):
        assert Version.parse(lower) < Version.parse(higher)
        assert not Version.parse(higher) < Version.parse(lower)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.0.0", "0.0.0.0"),
        ("4000", "4000.0.0"),
        ("3815.2.5", "3815.2.5+nightly-20240101-2100"),
        ("3815.2.5-dev+a", "3815.2.5-dev+b"),
        ("03815.2.5", "3815.2.5"),
        ("1-01", "1-1"),
    ],
)
def test_equal_versions_are_equal_in_every_way(one: str, other: str) -> None:
    first, second = Version.parse(one), Version.parse(other)
    assert first == second
    assert hash(first) == hash(second)
    assert not first < second
    assert not first > second
    assert (str(first), str(second)) == (one, other)


@pytest.mark.parametrize(
    "text",
    ["", "x", "v1.0", "1.", ".1", "1..2", "1.0-", "1.0+", "1.0 ", "1.0\n", "-1", "１.0", "1.0-ä",
     "1" * 129, "1.0-a..b"],
)  # fmt: skip
def test_an_unreadable_version_is_refused(text: str) -> None:
    with pytest.raises(BadVersion):
        Version.parse(text)


@given(st.text(st.sampled_from("0123456789.-+ab"), max_size=12))
def test_any_text_is_a_version_with_itself_as_text_or_an_error(text: str) -> None:
    try:
        version = Version.parse(text)
    except BadVersion:
        return
    assert str(version) == text
    assert version == Version.parse(text)


@given(st.binary(max_size=50))
def test_both_text_forms_of_a_digest_lead_back_to_it(content: bytes) -> None:
    sha1 = Digest("sha1", hashlib.sha1(content).digest())
    sha256 = Digest("sha256", hashlib.sha256(content).digest())
    assert sha256.hex == hashlib.sha256(content).hexdigest()
    assert Digest.from_hex(sha256.hex.upper()) == Digest.from_base64(sha256.base64) == sha256
    assert Digest.from_hex(sha1.hex, "sha1") == Digest.from_base64(sha1.base64, "sha1") == sha1
    assert str(sha1) == f"sha1:{sha1.hex}"


GOOD_HEX = "0" * 64
GOOD_BASE64 = "A" * 43 + "="


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "0" * 62, "g" * 64, "00 " * 21 + "0", GOOD_BASE64, "０" * 64]
)
def test_a_wrong_hex_is_refused(text: str) -> None:
    with pytest.raises(BadDigest):
        Digest.from_hex(text)


@pytest.mark.parametrize(
    "text",
    ["", "A" * 43, "A" * 42 + "B=", "A" * 40 + "=", GOOD_BASE64 + "\n", "-" * 43 + "=",
     "A" * 43 + "==", GOOD_HEX, "Ä" * 44],
)  # fmt: skip
def test_a_wrong_base64_is_refused(text: str) -> None:
    with pytest.raises(BadDigest):
        Digest.from_base64(text)


def test_a_digest_of_the_wrong_length_or_kind_cannot_be_made() -> None:
    with pytest.raises(BadDigest, match="32 bytes, not 20"):
        Digest("sha256", bytes(20))
    with pytest.raises(BadDigest, match="unknown"):
        Digest("md5", bytes(16))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ((13, 1, None, None), "download started"),
        ((14, 1, None, None), "download finished and verified"),
        ((3, 1, None, None), "update applied, waiting for the reboot"),
        ((3, 2, None, None), "update complete"),
        ((3, 2, None, "0.0.0.0"), "first check of this machine"),
        ((3, 2, None, ""), "running, nothing new since the last check"),
        ((3, 2, None, "3815.2.0"), "update complete, rebooted from 3815.2.0"),
        (
            (3, 0, 268435490, None),
            "update failed: the update server's answer was an error or incomplete (error 34)",
        ),
        (
            (3, 0, 44, None),
            "rolled back: the machine runs the old version after an applied update (error 44)",
        ),
        (
            (3, 9, 268435496, None),
            "update deferred: the machine waits after earlier failures (error 40)",
        ),
        ((3, 0, None, None), "update failed"),
        ((800, 1, None, None), "update installed, held by the machine"),
        ((6, 1, None, None), "install started: success"),
        ((4711, 99, 12345, None), "unknown (4711): unknown (99): an error that has no name here (error 12345)"),
        ((None, None, None, None), "unknown (None): unknown (None)"),
    ],
)  # fmt: skip
def test_an_event_is_said_in_words(
    event: tuple[int | None, int | None, int | None, str | None], words: str
) -> None:
    assert describe_event(*event) == words


@pytest.mark.parametrize(
    ("code", "base", "flags", "name"),
    [
        (10, 10, ErrorFlag(0), "payload-hash-mismatch-error"),
        (0, 0, ErrorFlag(0), "success"),
        (268435466, 10, ErrorFlag.TEST_OMAHA_URL, "payload-hash-mismatch-error"),
        (
            (1 << 30) | (1 << 29) | (1 << 28) | 9,
            9,
            ErrorFlag.RESUMED | ErrorFlag.TEST_IMAGE | ErrorFlag.TEST_OMAHA_URL,
            "download-transfer-error",
        ),
        (-(1 << 31) + 9, 9, ErrorFlag.DEV_MODE, "download-transfer-error"),
        (268437860, 2404, ErrorFlag.TEST_OMAHA_URL, "http-404"),
        (2000, 2000, ErrorFlag(0), "no-answer"),
        (3000, 3000, ErrorFlag(0), "unknown"),
        (77, 77, ErrorFlag(0), "unknown"),
        (1 << 40, 1 << 40, ErrorFlag(0), "unknown"),
    ],
)
def test_an_errorcode_is_taken_apart(code: int, base: int, flags: ErrorFlag, name: str) -> None:
    error = describe_error(code)
    assert (error.code, error.base, error.flags, error.name) == (code, base, flags, name)


def test_the_flags_of_an_error_are_said_in_words() -> None:
    error = describe_error((1 << 30) | (1 << 28) | 9)
    assert str(error) == "the download failed (error 9, resumed update)"


@given(st.integers())
def test_any_number_is_described(number: int) -> None:
    assert describe_error(number).words
    assert describe_event(number, number, number)


def test_the_codes_of_update_engine_are_all_there() -> None:
    assert [int(code) for code in ErrorCode] == [*range(45), 100]
    assert {3, 13, 14, 800} <= set(EventType)
    assert list(EventResult) == list(range(11))


@pytest.mark.parametrize(
    "module",
    [
        omaha_mirror.omaha,
        omaha_mirror.omaha.codes,
        omaha_mirror.omaha.values,
    ],
    ids=lambda module: module.__name__,
)
def test_the_examples_run(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


def test_the_public_names_are_sorted_and_exist() -> None:
    names = omaha_mirror.omaha.__all__
    upper = [name for name in names if name.isupper()]
    types = [name for name in names if name[0].isupper() and not name.isupper()]
    functions = [name for name in names if name[0].islower()]
    assert names == sorted(upper) + sorted(types) + sorted(functions)
    assert all(hasattr(omaha_mirror.omaha, name) for name in names)
