"""Proof by operation: what is said, when, and that each byte is hashed once."""

import hashlib
from collections import Counter

import pytest

from omaha_mirror.payload import OperationDigests, Verdicts, read_metadata
from omaha_mirror.payload.header import Span
from tests.payload.build import DATA, build, flipped, private_key, reading

PIECES = [bytes([i]) * (10 + i) for i in range(8)]
PAYLOAD = build(PIECES, kernel=[b"kernel"], signers=[(2, private_key("vendor"))])
MANIFEST = read_metadata(reading(PAYLOAD), len(PAYLOAD))
SPANS = [(o.start, o.stop) for o in MANIFEST.operations]
WHOLE = [(0, len(PAYLOAD))]
OEM = (DATA / "3815.2.1" / "oem-azure.gz").read_bytes()


class Recorder:
    """Reads what is filled, and remembers what was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.filled: list[Span] = []
        self.read_at: Counter[int] = Counter()

    def __call__(self, offset: int, count: int) -> bytes:
        assert any(start <= offset and offset + count <= stop for start, stop in self.filled)
        self.read_at.update(range(offset, offset + count))
        return self.data[offset : offset + count]


def examine(
    operations: OperationDigests, read: Recorder, *filled: Span, budget: int = 1000
) -> Verdicts:
    read.filled = list(filled)
    return operations.examine(filled, read, budget)


def test_an_operation_is_told_of_once_when_its_last_byte_is_there() -> None:
    operations, read = OperationDigests(len(PAYLOAD)), Recorder(PAYLOAD)
    for stop in range(1, len(PAYLOAD) + 1):
        expected = tuple(span for span in SPANS if span[1] == stop)
        assert examine(operations, read, (0, stop)) == Verdicts(good=expected)
    assert examine(operations, read, *WHOLE) == Verdicts()


def test_each_byte_of_data_is_read_once_and_no_other_than_the_metadata() -> None:
    operations, read = OperationDigests(len(PAYLOAD)), Recorder(PAYLOAD)
    for stop in range(1, len(PAYLOAD) + 1):
        examine(operations, read, (0, stop))
    data = range(MANIFEST.metadata_size, MANIFEST.data_stop)
    assert [read.read_at[at] for at in data] == [1] * len(data)
    assert max(read.read_at) == MANIFEST.data_stop - 1


def test_a_file_in_pieces_is_judged_where_operations_are_whole() -> None:
    operations, read = OperationDigests(len(PAYLOAD)), Recorder(PAYLOAD)
    head, far = SPANS[1][0] + 3, SPANS[5][0] - 2
    assert examine(operations, read, (far, len(PAYLOAD))) == Verdicts()
    assert examine(operations, read, (0, head), (far, len(PAYLOAD))).good == (SPANS[0], *SPANS[5:])
    middle = (SPANS[3][0], SPANS[4][0] + 5)
    assert examine(operations, read, (0, head), middle, (far, len(PAYLOAD))).good == (SPANS[3],)
    assert examine(operations, read, *WHOLE).good == (SPANS[1], SPANS[2], SPANS[4])


def test_a_wrong_operation_is_told_once_and_judged_again_when_its_bytes_are_others() -> None:
    operations, read = OperationDigests(len(PAYLOAD)), Recorder(flipped(PAYLOAD, SPANS[2][0] + 1))
    before, after = SPANS[2]
    found = examine(operations, read, *WHOLE)
    assert found == Verdicts(good=(*SPANS[:2], *SPANS[3:]), wrong=(SPANS[2],))
    assert examine(operations, read, *WHOLE) == Verdicts()
    operations.again(SPANS[2])
    assert examine(operations, read, (0, before), (after, len(PAYLOAD))) == Verdicts()
    assert examine(operations, read, (0, before + 2), (after, len(PAYLOAD))) == Verdicts()
    assert examine(operations, read, *WHOLE).wrong == (SPANS[2],)
    operations.again(SPANS[2])
    read.data = PAYLOAD
    assert examine(operations, read, *WHOLE) == Verdicts(good=(SPANS[2],))


def test_a_call_hashes_no_more_than_its_budget() -> None:
    operations, read = OperationDigests(len(PAYLOAD)), Recorder(PAYLOAD)
    told: list[Span] = []
    calls, more = 0, True
    while more:
        before = read.read_at.total()
        found = examine(operations, read, *WHOLE, budget=7)
        told += found.good
        more, calls = found.more, calls + 1
        assert read.read_at.total() - before <= 7 + (
            2 * MANIFEST.metadata_size if calls == 1 else 0
        )
    assert told == SPANS
    data = MANIFEST.data_stop - MANIFEST.metadata_size
    assert calls == -(-data // 7)


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" * 500, flipped(PAYLOAD, 11), PAYLOAD[:-1]])
def test_of_what_is_no_payload_nothing_is_ever_said(data: bytes) -> None:
    operations, read = OperationDigests(len(data)), Recorder(data)
    for _ in range(2):
        assert examine(operations, read, (0, len(data))) == Verdicts()
    assert operations.refusal is not None


def test_bytes_that_vanish_are_an_error_of_the_disk_and_cost_no_verdict() -> None:
    operations = OperationDigests(len(PAYLOAD))
    cut = SPANS[3][0] + 4
    with pytest.raises(OSError, match=f"missing at {cut}"):
        operations.examine(WHOLE, reading(PAYLOAD[:cut]))
    assert operations.examine(WHOLE, reading(PAYLOAD)).wrong == ()


@pytest.mark.long
def test_every_flipped_byte_of_the_data_is_found_in_its_operation() -> None:
    """A byte of each of 1,000 operations at a time, until all 700,000 had their turn."""
    size, count = 700, 1000
    pieces = [hashlib.shake_128(i.to_bytes(2, "big")).digest(size) for i in range(count)]
    payload = build(pieces)
    start = len(payload) - size * count
    spans = tuple((start + i * size, start + (i + 1) * size) for i in range(count))
    filled = [(0, len(payload))]
    operations, data = OperationDigests(len(payload)), bytearray(payload)

    def reading_now(offset: int, count: int) -> bytes:
        return bytes(data[offset : offset + count])

    head = operations.examine([(0, start)], reading_now)
    assert head == Verdicts()
    flip = bytes(byte ^ 1 for byte in range(256))
    for at in range(size):
        column = slice(start + at, None, size)
        data[column] = data[column].translate(flip)
        assert operations.examine(filled, reading_now) == Verdicts(wrong=spans)
        data[column] = data[column].translate(flip)
        for span in spans:
            operations.again(span)
    assert operations.examine(filled, reading_now) == Verdicts(good=spans)


def test_an_operation_of_many_chunks_is_hashed_whole() -> None:
    data = [hashlib.shake_128(b"large").digest(5 * 1024 * 1024 + 3)]
    payload = build(data)
    for wrong_at in (None, len(payload) - 1, len(payload) // 2):
        operations = OperationDigests(len(payload))
        tried = payload if wrong_at is None else flipped(payload, wrong_at)
        found = operations.examine([(0, len(payload))], reading(tried))
        assert bool(found.wrong) == (wrong_at is not None)
        assert bool(found.good) == (wrong_at is None)
