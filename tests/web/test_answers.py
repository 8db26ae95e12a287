"""Answers that are kept: bounded in bytes, and one for all names of the mirror."""

import pytest

from omaha_mirror.omaha import BadValue
from omaha_mirror.web.update import ENTRY, Answers


def answer(answers: Answers, shape: str, base: str, size: int = 0) -> bytes:
    """As it is kept, or made now."""
    found = answers.find(shape, base)
    if found is not None:
        return found

    def make(base: str) -> bytes:
        return f'<{shape} codebase="{base}/a/"/>'.encode() + bytes(size)

    return answers.make(shape, base, make, variable=0, owner=None)


def test_an_answer_is_kept_once_for_all_names_of_the_mirror() -> None:
    answers = Answers()
    for number in range(300):
        base = f"http://mirror-{number}:8000"
        assert answer(answers, "x", base) == f'<x codebase="{base}/a/"/>'.encode()
    assert len(answers) == 1


def test_answers_are_bounded_in_bytes_and_those_used_last_are_kept() -> None:
    answers = Answers(20 * ENTRY)
    for number in range(100):
        answer(answers, f"n{number}", "http://a", ENTRY)
        answer(answers, "used", "http://a", ENTRY)
        assert answers.size <= 20 * ENTRY
    assert answers.find("used", "http://a") is not None
    assert answers.find("n99", "http://a") is not None
    assert answers.find("n1", "http://a") is None
    assert 5 < len(answers) < 10


def test_what_a_client_told_counts_and_a_large_one_is_not_kept() -> None:
    answers = Answers(10 * ENTRY)
    for number in range(100):
        answers.make(str(number), "http://a", lambda _: b"", variable=4 * ENTRY, owner=None)
        assert len(answers) <= 2
    answers.make("large", "http://a", lambda _: bytes(10 * ENTRY), variable=0, owner=None)
    assert answers.find("large", "http://a") is None


def test_an_address_is_written_as_xml_wants_it_and_must_be_one() -> None:
    answers = Answers()
    assert answer(answers, "x", "http://a/b&c") == b'<x codebase="http://a/b&amp;c/a/"/>'
    for base in ("http://[::::]", "ftp://a", "http://a/?b"):
        with pytest.raises(BadValue, match="the address"):
            answer(answers, "x", base)
