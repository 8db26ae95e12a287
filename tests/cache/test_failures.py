"""What is remembered of wrong bytes, and for how long."""

from pathlib import Path

import pytest

from omaha_mirror.aio.clock import DAY
from omaha_mirror.cache import DiskStore
from omaha_mirror.cache.failures import COOLDOWN_SECONDS, RESUME_UNSAFE_SECONDS, ROUNDS, Failures
from tests.support.clock import SetClock, StoppedClock


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def wrong(failures: Failures, times: int = 1, *, leaked: bool = False) -> None:
    for i in range(times):
        failures.wrong("a", f"reason {i}", leaked=leaked)


def test_a_blob_cools_down_after_some_wrong_rounds_with_the_last_reason(
    clock: StoppedClock,
) -> None:
    failures = Failures(clock)
    wrong(failures, ROUNDS - 1)
    assert failures.cooldown("a") is None
    failures.wrong("a", "the last", leaked=False)
    assert failures.cooldown("a") == "the last"
    assert failures.cooldown("b") is None


def test_a_blob_that_cooled_down_gets_as_many_rounds_again(clock: StoppedClock) -> None:
    failures = Failures(clock)
    wrong(failures, ROUNDS)
    clock.now += COOLDOWN_SECONDS - 1
    assert failures.cooldown("a")
    clock.now += 1
    assert failures.cooldown("a") is None
    wrong(failures, ROUNDS - 1)
    assert failures.cooldown("a") is None
    wrong(failures)
    assert failures.cooldown("a")


def test_a_right_round_forgets_the_wrong_ones(clock: StoppedClock) -> None:
    failures = Failures(clock)
    wrong(failures, ROUNDS - 1)
    failures.right("a")
    wrong(failures, ROUNDS - 1)
    assert failures.cooldown("a") is None


@pytest.mark.parametrize("leaked", [False, True])
def test_resuming_is_unsafe_only_where_wrong_bytes_left(clock: StoppedClock, leaked: bool) -> None:
    failures = Failures(clock)
    wrong(failures, leaked=leaked)
    wrong(failures, leaked=False)
    assert failures.is_resume_unsafe("a") is leaked
    assert not failures.is_resume_unsafe("b")


def test_a_right_round_does_not_lift_the_taint_but_time_does(clock: StoppedClock) -> None:
    """A client still has the head of the wrong one."""
    failures = Failures(clock)
    wrong(failures, leaked=True)
    failures.right("a")
    clock.now += RESUME_UNSAFE_SECONDS - 1
    assert failures.is_resume_unsafe("a")
    clock.now += 1
    assert not failures.is_resume_unsafe("a")


def test_what_leaked_before_a_restart_taints_for_the_rest_of_its_time(clock: StoppedClock) -> None:
    failures = Failures(clock)
    failures.load(
        {"a": clock.now - RESUME_UNSAFE_SECONDS + 1, "b": clock.now - RESUME_UNSAFE_SECONDS - 1}, {}
    )
    assert (failures.is_resume_unsafe("a"), failures.is_resume_unsafe("b")) == (True, False)
    assert failures.cooldown("a") is None
    clock.now += 1
    assert not failures.is_resume_unsafe("a")


def test_what_is_over_is_forgotten(clock: StoppedClock) -> None:
    failures = Failures(clock)
    wrong(failures, leaked=True)
    failures.wrong("still counted", "why", leaked=False)
    failures.right("a")
    assert set(failures._records) == {"a", "still counted"}
    clock.now += RESUME_UNSAFE_SECONDS + 1
    failures.right("another")
    assert set(failures._records) == {"still counted"}


@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -30 * 365 * DAY, 3600.0, -3600.0])
def test_setting_the_clock_neither_opens_nor_lengthens_a_window(ahead: float) -> None:
    clock = SetClock()
    failures = Failures(clock)
    wrong(failures, ROUNDS, leaked=True)
    clock.ahead = ahead
    clock.later += RESUME_UNSAFE_SECONDS - 60
    assert failures.is_resume_unsafe("a")
    assert failures.cooldown("a")
    clock.later += 120
    assert not failures.is_resume_unsafe("a")
    clock.later += COOLDOWN_SECONDS - RESUME_UNSAFE_SECONDS
    assert failures.cooldown("a") is None


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
    failures = Failures(second)
    failures.load(DiskStore(tmp_path, second).marks(), {})
    assert failures.is_resume_unsafe("a")
    second.later += RESUME_UNSAFE_SECONDS + 60
    assert not failures.is_resume_unsafe("a")
    if wrong_first:
        [when] = DiskStore(tmp_path, second).marks().values()
        assert when < second.right(), "it was put down as of when it was first read"
