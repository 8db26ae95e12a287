"""What is remembered of wrong bytes, and for how long."""

import pytest

from omaha_mirror.cache.verdicts import CONDEMNED_SECONDS, ROUNDS, TAINTED_SECONDS, Verdicts
from tests.support.clock import StoppedClock


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def wrong(verdicts: Verdicts, times: int = 1, *, leaked: bool = False) -> None:
    for i in range(times):
        verdicts.wrong("a", f"reason {i}", leaked=leaked)


def test_a_blob_is_condemned_after_some_wrong_rounds_with_the_last_reason(
    clock: StoppedClock,
) -> None:
    verdicts = Verdicts(clock)
    wrong(verdicts, ROUNDS - 1)
    assert verdicts.condemned("a") is None
    verdicts.wrong("a", "the last", leaked=False)
    assert verdicts.condemned("a") == "the last"
    assert verdicts.condemned("b") is None


def test_a_condemned_blob_gets_as_many_rounds_again_later(clock: StoppedClock) -> None:
    verdicts = Verdicts(clock)
    wrong(verdicts, ROUNDS)
    clock.now += CONDEMNED_SECONDS - 1
    assert verdicts.condemned("a")
    clock.now += 1
    assert verdicts.condemned("a") is None
    wrong(verdicts, ROUNDS - 1)
    assert verdicts.condemned("a") is None
    wrong(verdicts)
    assert verdicts.condemned("a")


def test_a_right_round_forgets_the_wrong_ones(clock: StoppedClock) -> None:
    verdicts = Verdicts(clock)
    wrong(verdicts, ROUNDS - 1)
    verdicts.right("a")
    wrong(verdicts, ROUNDS - 1)
    assert verdicts.condemned("a") is None


@pytest.mark.parametrize("leaked", [False, True])
def test_a_blob_is_tainted_only_where_wrong_bytes_left(clock: StoppedClock, leaked: bool) -> None:
    verdicts = Verdicts(clock)
    wrong(verdicts, leaked=leaked)
    wrong(verdicts, leaked=False)
    assert verdicts.tainted("a") is leaked
    assert not verdicts.tainted("b")


def test_a_right_round_does_not_lift_the_taint_but_time_does(clock: StoppedClock) -> None:
    """A client still has the head of the wrong one."""
    verdicts = Verdicts(clock)
    wrong(verdicts, leaked=True)
    verdicts.right("a")
    clock.now += TAINTED_SECONDS - 1
    assert verdicts.tainted("a")
    clock.now += 1
    assert not verdicts.tainted("a")


def test_what_leaked_before_a_restart_taints_for_the_rest_of_its_time(clock: StoppedClock) -> None:
    verdicts = Verdicts(clock)
    verdicts.load({"a": clock.now - TAINTED_SECONDS + 1, "b": clock.now - TAINTED_SECONDS - 1}, {})
    assert (verdicts.tainted("a"), verdicts.tainted("b")) == (True, False)
    assert verdicts.condemned("a") is None
    clock.now += 1
    assert not verdicts.tainted("a")


def test_what_is_over_is_forgotten(clock: StoppedClock) -> None:
    verdicts = Verdicts(clock)
    wrong(verdicts, leaked=True)
    verdicts.wrong("still counted", "why", leaked=False)
    verdicts.right("a")
    assert set(verdicts._records) == {"a", "still counted"}
    clock.now += TAINTED_SECONDS + 1
    verdicts.right("another")
    assert set(verdicts._records) == {"still counted"}
