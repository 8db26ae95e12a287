"""What the clock believes, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from omaha_mirror.aio.clock import DAY, LATER, SKEW, Clock, ClockFile, kernel_synchronised
from tests.support.clock import SetClock

YEARS = 365 * DAY


def test_the_kernel_can_be_asked() -> None:
    assert kernel_synchronised() in (True, False)


@pytest.mark.parametrize("ahead", [9 * YEARS, -30 * YEARS, 0.0])
def test_nothing_is_believed_without_evidence(ahead: float) -> None:
    clock = SetClock(ahead)
    assert not clock.sure
    assert clock.stamp() == LATER
    assert clock.at_least() == 0.0
    assert clock.age(0.0) == 0.0
    assert "nothing has confirmed it" in clock.trouble() or "before this program" in clock.trouble()


@pytest.mark.parametrize(("apart", "sure"), [(0, True), (290, True), (-290, True), (310, False)])
def test_upstreams_date_confirms_a_clock_that_agrees(apart: float, sure: bool) -> None:
    clock = SetClock()
    clock.record_upstream_date(clock.right() + apart)
    assert clock.sure is sure
    assert (clock.ahead_of_upstream is None) is sure
    assert bool(clock.trouble()) is not sure


def test_the_kernel_confirms_it() -> None:
    clock = SetClock(synchronised=True)
    assert clock.sure
    assert clock.stamp() == pytest.approx(clock.right(), abs=60)


def test_so_does_a_day_in_which_all_went_on_together() -> None:
    clock = SetClock(9 * YEARS)
    clock.later += DAY - 100
    assert not clock.sure
    clock.later += 101
    assert clock.sure


def test_a_day_begins_anew_where_the_clock_was_set() -> None:
    clock = SetClock()
    clock.later += DAY - 100
    clock.ahead = YEARS
    assert not clock.sure
    clock.later += 200
    assert not clock.sure
    clock.a_day()
    assert clock.sure


def test_a_day_that_upstream_contradicts_confirms_nothing() -> None:
    clock = SetClock(9 * YEARS)
    for _ in range(50):
        clock.later += DAY / 24
        clock.record_upstream_date(clock.right())
    assert not clock.sure
    assert "ahead of upstream's" in clock.trouble()


@pytest.mark.parametrize("jump", [9 * YEARS, -30 * YEARS, 2 * SKEW])
def test_what_was_believed_stays_known_when_the_clock_is_set_wrong(jump: float) -> None:
    clock = SetClock()
    clock.record_upstream_date(clock.right())
    corrections = clock.corrections
    clock.ahead = jump
    clock.later += 1000
    assert clock.time() == pytest.approx(clock.right(), abs=60)
    assert clock.stamp() == pytest.approx(clock.right(), abs=60)
    assert clock.age(clock.right() - 500) == pytest.approx(500, abs=60)
    assert clock.corrections == corrections
    assert "this machine's clock says" in clock.trouble()


def test_a_clock_that_was_believed_and_wrong_is_put_right_by_upstream() -> None:
    clock = SetClock(9 * YEARS)
    clock.a_day()
    assert clock.sure
    corrections, noted = clock.corrections, clock.stamp()
    clock.ahead = 0.0
    clock.record_upstream_date(clock.right())
    assert clock.corrections == corrections + 1
    assert clock.time() == pytest.approx(clock.right(), abs=60)
    assert clock.age(noted) == 0.0


def test_a_clock_that_drifts_is_followed() -> None:
    clock = SetClock()
    clock.record_upstream_date(clock.right())
    for _ in range(40):
        clock.ahead += 20
        assert clock.time() == pytest.approx(clock.right() + clock.ahead, abs=60)
    assert clock.corrections == 1


def test_a_clock_that_begins_long_ago_is_not_earlier_than_it_was() -> None:
    clock = SetClock()
    before = clock.right()
    again = SetClock(-30 * YEARS)
    again.restore(before)
    assert again.time() == pytest.approx(before, abs=60)
    assert again.stamp() == LATER
    assert again.at_least() < before - YEARS, "nothing ends by a clock that contradicts itself"


def test_after_a_restart_no_more_time_has_surely_passed_than_this_process_saw() -> None:
    before = SetClock().right()
    clock = SetClock(9 * YEARS)
    clock.restore(before)
    clock.later += 100
    assert clock.age(before) == pytest.approx(100, abs=60)
    assert clock.age(before - 1000) == pytest.approx(1100, abs=60)


def test_asking_costs_no_more_than_looking() -> None:
    """The kernel is asked once a second at most, and whenever the clock was set."""
    asked, now = [], [1e9]

    def synchronised() -> bool:
        asked.append(now[0])
        return False

    clock = Clock(wall=lambda: now[0], boottime=lambda: 5.0, synchronised=synchronised)
    for _ in range(10):
        clock.time()
    assert len(asked) == 1
    now[0] += 2 * SKEW
    clock.time()
    assert len(asked) == 2


@pytest.mark.parametrize("told", ["Infinity", "NaN", "1e300", "-1", "1e999", "[" * 2000, '"x"'])
async def test_a_time_that_nobody_can_have_known_is_none(tmp_path: Path, told: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(f'{{"time": {told}}}')
    clock = SetClock()
    await ClockFile(clock, path).start()
    assert clock.time() == pytest.approx(clock.right(), abs=60)
    assert not path.exists()
