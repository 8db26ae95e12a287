"""What the prover of packages says of bytes, step by step."""

import pytest

from omaha_mirror.cache import Expected
from omaha_mirror.cache.intervals import NOTHING, Intervals
from omaha_mirror.cache.prover import Prover, Ruling, Span
from omaha_mirror.packages.payload_prover import LARGE, PayloadProvers
from omaha_mirror.payload import read_metadata
from tests.payload.build import build, flipped, private_key, public_key, reading

MIB = 1024 * 1024
PAYLOAD = build(
    [b"a" * 1000, b"b" * (LARGE + 1), b"c" * 1000], signers=[(2, private_key("vendor"))]
)
SIZE = len(PAYLOAD)
MANIFEST = read_metadata(reading(PAYLOAD), SIZE)
FIRST, BIG, LAST = [(o.start, o.stop) for o in MANIFEST.operations]
HEAD, TAIL = FIRST[0], LAST[1]
HOLD_BACK = 5000


def prover_of(data: bytes = PAYLOAD) -> Prover:
    return PayloadProvers()(Expected(len(data)), HOLD_BACK)


def examine(
    prover: Prover, *filled: Span, data: bytes = PAYLOAD, capacity: int | None = None
) -> Ruling:
    return prover.examine(Intervals(filled), reading(data), capacity)


@pytest.mark.parametrize(
    ("filled", "released", "completable"),
    [
        ([], [], []),
        ([(0, HEAD - 1)], [], []),
        ([(9, SIZE)], [], []),
        ([(0, HEAD)], [(0, HEAD)], [(0, HEAD)]),
        ([(0, FIRST[1] - 1)], [(0, HEAD)], [(0, HEAD)]),
        ([(0, FIRST[1])], [(0, FIRST[1])], [(0, FIRST[1])]),
        ([(0, BIG[0] + 9)], [(0, BIG[0] + 9)], [(0, FIRST[1])]),
        ([(0, BIG[1] - 1)], [(0, SIZE - HOLD_BACK)], [(0, FIRST[1])]),
        ([(0, BIG[1])], [(0, BIG[1])], [(0, BIG[1])]),
        (
            [(0, HEAD), (BIG[0] + 5, BIG[0] + 7), (LAST[0], SIZE)],
            [(0, HEAD), (BIG[0] + 5, BIG[0] + 7), LAST],
            [(0, HEAD), (LAST[0], SIZE)],
        ),
        ([(0, SIZE)], [(0, TAIL)], [(0, SIZE)]),
    ],
)
def test_what_may_leave_and_what_will_stay(
    filled: list[Span], released: list[Span], completable: list[Span]
) -> None:
    ruling = examine(prover_of(), *filled)
    assert (list(ruling.released), list(ruling.completable)) == (released, completable)
    big = [part for part in Intervals(filled).clip(*BIG) if released]
    assert ruling.hashable == Intervals([*completable, *big])
    assert (ruling.wrong, ruling.more) == ((), False)


def test_the_last_byte_never_leaves_though_its_operation_is_right() -> None:
    data = build([b"all"])
    ruling = examine(prover_of(data), (0, len(data)), data=data)
    assert list(ruling.released) == [(0, len(data) - 1)]
    assert list(ruling.completable) == [(0, len(data))]


@pytest.mark.parametrize("span", [FIRST, BIG])
def test_a_wrong_operation_is_told_until_other_bytes_come(span: Span) -> None:
    prover, bad = prover_of(), flipped(PAYLOAD, span[1] - 1)
    ruling = examine(prover, (0, SIZE), data=bad)
    assert ruling.wrong == (span,)
    for part in ruling.released, ruling.completable:
        assert not part.clip(*span)
    prover.dropped(*span)
    assert examine(prover, (0, span[0]), (span[1], SIZE)).wrong == ()
    ruling = examine(prover, (0, SIZE))
    assert (ruling.wrong, list(ruling.completable)) == ((), [(0, SIZE)])


def test_a_head_that_cannot_be_read_is_fetched_once_more_and_then_held_back_as_any_file() -> None:
    prover, bad = prover_of(), flipped(PAYLOAD, 1)
    assert examine(prover, (0, 19), data=bad) == Ruling(NOTHING, NOTHING, NOTHING)
    assert examine(prover, (0, 4000), data=bad).wrong == ((0, 4000),)
    prover.dropped(0, 4000)
    ruling = examine(prover, (0, SIZE), data=bad)
    assert list(ruling.released) == [(0, SIZE - HOLD_BACK)]
    assert list(ruling.completable) == [(0, SIZE)]
    assert list(prover.needs(5, 9)) == [(5, 9)]


def test_what_does_not_look_like_a_payload_is_held_back_at_once() -> None:
    ruling = examine(prover_of(), (0, SIZE), data=b"\x1f\x8b" + PAYLOAD[2:3] + bytes(SIZE - 3))
    assert list(ruling.released) == [(0, SIZE - HOLD_BACK)]


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        ((0, 5), (0, 5)),
        ((0, HEAD + 1), (0, FIRST[1])),
        ((FIRST[1] - 1, FIRST[1]), FIRST),
        ((FIRST[0] + 1, BIG[0] + 7), (FIRST[0], BIG[0] + 7)),
        ((BIG[0] + 7, BIG[0] + 9), (BIG[0] + 7, BIG[0] + 9)),
        ((BIG[0] + 7, LAST[0] + 1), (BIG[0] + 7, LAST[1])),
        ((TAIL + 1, SIZE), (TAIL + 1, SIZE)),
    ],
)
def test_a_range_needs_its_operations_whole_unless_they_are_too_large(
    asked: Span, needed: Span
) -> None:
    prover = prover_of()
    assert list(prover.needs(*asked)) == [(0, SIZE)]
    examine(prover, (0, HEAD))
    assert list(prover.needs(*asked)) == [needed]


def test_in_passing_what_does_not_fit_is_settled_as_it_comes() -> None:
    prover, filled = prover_of(), (0, BIG[0] + 9)
    assert list(examine(prover, filled, capacity=64 * MIB).completable) == [filled]
    assert list(examine(prover_of(), (0, HEAD + 9), capacity=3000).completable) == [(0, HEAD + 9)]
    assert list(examine(prover_of(), (0, HEAD + 9)).completable) == [(0, HEAD)]


def test_in_passing_a_head_that_does_not_fit_makes_it_any_file() -> None:
    prover = prover_of()
    assert examine(prover, (0, HEAD - 1), capacity=100).more
    assert list(examine(prover, (0, HEAD - 1), capacity=100).completable) == [(0, HEAD - 1)]


def test_the_signatures_are_suspected_once() -> None:
    prover = prover_of()
    assert prover.suspects() == ()
    examine(prover, (0, SIZE))
    assert [prover.suspects(), prover.suspects()] == [((TAIL, SIZE),), ()]
    unsigned = build([b"all"])
    prover = prover_of(unsigned)
    examine(prover, (0, len(unsigned)), data=unsigned)
    assert prover.suspects() == ()


def test_the_terms_are_the_keys_in_whatever_order() -> None:
    one, other = public_key("vendor"), public_key("other")
    keys = [one, other]
    provers = PayloadProvers(keys)
    terms = provers.terms
    assert (provers.accepts(one.id), provers.accepts(other.id)) == (True, True)
    assert (provers.accepts(""), provers.accepts("0" * 16)) == (False, False)
    keys.reverse()
    assert provers.terms == terms
    del keys[0]
    assert provers.terms != terms
    keys.clear()
    assert provers.accepts("")
