"""The clients of the table see what is wrong: a table of theirs that shows nothing would mean nothing."""

from random import Random

import pytest

from omaha_mirror.config import Address
from tests.faults.clients import Machine, Outcome
from tests.support.upstream import (
    Change,
    Corrupt,
    Drop,
    Fault,
    Hangup,
    NoRange,
    Status,
    Upstream,
    WrongLength,
    WrongRange,
)

PATH = "/amd64-usr/9000.0.0/update.gz"
BODY = Random(0).randbytes(500_000)
HALF = len(BODY) // 2


@pytest.fixture
def machine(upstream: Upstream) -> Machine:
    """One that downloads from the scripted upstream itself."""
    upstream.put(PATH, BODY)
    return Machine(Address.parse(upstream.origin.removeprefix("http://")), PATH, BODY)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (None, "ok"),
        (Corrupt(at=0), "WRONG"),
        (Corrupt(at=len(BODY) - 1), "WRONG"),
        (WrongLength(by=-1), "SHORT"),
        (WrongLength(by=1), "cut at 100 %"),
        (Drop(at=HALF), "cut at 50 %"),
        (Status(code=503), "status 503"),
        (Hangup(), "closed"),
    ],
)
async def test_a_whole_download_is_told_for_what_it_is(
    upstream: Upstream, machine: Machine, fault: Fault | None, word: str
) -> None:
    if fault is not None:
        upstream.fault(PATH, fault)
    assert (await machine.whole()).word == word


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (None, "ok"),
        (NoRange(), "WRONG"),
        (WrongRange(by=-1), "WRONG"),
        (Corrupt(at=HALF), "WRONG"),
        (Drop(at=HALF), "cut at 50 %"),
    ],
)
async def test_a_range_is_told_for_what_it_is(
    upstream: Upstream, machine: Machine, fault: Fault | None, word: str
) -> None:
    if fault is not None:
        upstream.fault(PATH, fault)
    assert (await machine.tail(1000)).word == word
    assert (await machine.bounded(1000, HALF + 1)).word == word


async def test_a_resuming_client_completes_over_drops(upstream: Upstream, machine: Machine) -> None:
    for at in (1, HALF, len(BODY) - 1):
        upstream.fault(PATH, Drop(times=1, at=at))
    assert await machine.resuming() == Outcome("ok", len(BODY))


async def test_a_good_tail_on_a_bad_head_is_wrong(upstream: Upstream, machine: Machine) -> None:
    upstream.fault(PATH, Corrupt(times=1, at=0))
    upstream.fault(PATH, Drop(times=1, at=HALF))
    assert (await machine.resuming()).word == "WRONG"


async def test_a_bare_range_that_is_answered_with_the_whole_file_is_wrong(
    upstream: Upstream, machine: Machine
) -> None:
    upstream.fault(PATH, Drop(times=1, at=HALF))
    upstream.fault(PATH, NoRange())
    assert (await machine.resuming()).word == "WRONG"
    assert (await machine.resuming()).word == "ok"


async def test_if_range_begins_again_where_the_file_is_another(
    upstream: Upstream, machine: Machine
) -> None:
    upstream.put(PATH, BODY[::-1])
    upstream.fault(PATH, Change(times=1, at=HALF, body=BODY, drop=True))
    assert await machine.resuming(if_range=True) == Outcome("ok", len(BODY))
