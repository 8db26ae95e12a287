"""What a blob is called, and what proves it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.cache.blob import Expected, Hasher, Proof

DATA = b"update payload"
SHA256 = hashlib.sha256(DATA).digest()
SHA1 = hashlib.sha1(DATA).digest()
WRONG = bytes(32)


def judge(expected: Expected, data: bytes) -> Proof | str:
    hasher = Hasher(expected)
    hasher.update(data)
    return hasher.judge()


@pytest.mark.parametrize(
    ("expected", "key", "proven_by"),
    [
        (Expected(14, SHA256, SHA1), SHA256.hex(), "sha256"),
        (Expected(14, None, SHA1), f"sha1-{SHA1.hex()}", "sha1"),
        (
            Expected(14, source="http://a/b"),
            f"url-{hashlib.sha256(b'14 http://a/b').hexdigest()}",
            "size-and-validator",
        ),
    ],
)
def test_the_key_is_the_strongest_thing_known(expected: Expected, key: str, proven_by: str) -> None:
    assert (expected.key, expected.proven_by) == (key, proven_by)
    assert judge(expected, DATA) == Proof(14, SHA256, expected.sha1, expected.proven_by)


def test_without_a_digest_another_size_or_source_is_another_blob() -> None:
    keys = {Expected(size, source=url).key for size in (1, 2) for url in ("http://a", "http://b")}
    assert len(keys) == 4


def test_the_source_of_a_known_digest_makes_no_difference() -> None:
    assert Expected(14, SHA256, source="http://a") == Expected(14, SHA256, source="http://b")


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected(15, SHA256), "14 bytes instead of 15"),
        (Expected(14, WRONG), f"SHA-256 is {SHA256.hex()}, expected {WRONG.hex()}"),
        (Expected(14, SHA256, bytes(20)), f"SHA-1 is {SHA1.hex()}, expected {bytes(20).hex()}"),
        (Expected(14, None, bytes(20)), f"SHA-1 is {SHA1.hex()}, expected {bytes(20).hex()}"),
    ],
)
def test_what_is_wrong_is_said(expected: Expected, reason: str) -> None:
    assert judge(expected, DATA) == reason


@given(st.lists(st.binary()))
def test_the_cut_of_the_pieces_makes_no_difference(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    expected = Expected(len(data), hashlib.sha256(data).digest(), hashlib.sha1(data).digest())
    hasher = Hasher(expected)
    for piece in pieces:
        hasher.update(memoryview(piece))
    assert isinstance(hasher.judge(), Proof)
