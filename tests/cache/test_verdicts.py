"""What is remembered of wrong bytes, and for how long."""

from pathlib import Path

import pytest

from omaha_mirror.aio.clock import DAY
from omaha_mirror.cache import DiskStore
from omaha_mirror.cache.failures import CONDEMNED_SECONDS, ROUNDS, TAINTED_SECONDS, Verdicts
from tests.support.clock import SetClock, StoppedClock


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


@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -30 * 365 * DAY, 3600.0, -3600.0])
def test_setting_the_clock_neither_opens_nor_lengthens_a_window(ahead: float) -> None:
    clock = SetClock()
    verdicts = Verdicts(clock)
    wrong(verdicts, ROUNDS, leaked=True)
    clock.ahead = ahead
    clock.later += TAINTED_SECONDS - 60
    assert verdicts.tainted("a")
    assert verdicts.condemned("a")
    clock.later += 120
    assert not verdicts.tainted("a")
    clock.later += CONDEMNED_SECONDS - TAINTED_SECONDS
    assert verdicts.condemned("a") is None


@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -30 * 365 * DAY])
@pytest.mark.parametrize("wrong_first", [False, True])
def test_a_mark_holds_over_a_restart_on_a_clock_that_is_not_sure(
    tmp_path: Path, ahead: float, wrong_first: bool
) -> None:
    """Noted by a right clock and read by a wrong one, or the other way round."""
    right, other = SetClock(synchronised=True), SetClock(ahead)
    first, second = (other, right) if wrong_first else (right, other)
    store = DiskStore(tmp_path, first)
    store.load()
    store.mark("a")
    verdicts = Verdicts(second)
    verdicts.load(DiskStore(tmp_path, second).marks(), {})
    assert verdicts.tainted("a")
    second.later += TAINTED_SECONDS + 60
    assert not verdicts.tainted("a")
    if wrong_first:
        [when] = DiskStore(tmp_path, second).marks().values()
        assert when < second.right(), "it was put down as of when it was first read"
