"""Walks: what is asked next, what is learnt, and that nothing stays granted."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.catalog import OfferedRelease, UpstreamPolicy, UpstreamReading
from omaha_mirror.catalog.walk import MAX_STEPS, Walk
from tests.catalog.scene import release

NO = UpstreamReading(UpstreamPolicy.NO_UPDATE)
BUSY = UpstreamReading(UpstreamPolicy.BUSY, detail="not now")
WITHDRAWN = UpstreamReading(UpstreamPolicy.WITHDRAWN, detail="switched off")


def offer(*versions: str, floor: bool = False) -> UpstreamReading:
    """An answer with these versions, oldest first; all but the last are floors, and that one if it is said to be."""
    last = len(versions) - 1
    return UpstreamReading(
        UpstreamPolicy.OFFERS,
        tuple(
            OfferedRelease(release(version=v), floor or i < last) for i, v in enumerate(versions)
        ),
    )


def walked(walk: Walk, *answers: UpstreamReading) -> list[str]:
    """Give a walk these answers; the versions that it asked as. Each but the last must leave it going on."""
    asked = []
    for i, told in enumerate(answers, 1):
        asked.append(walk.asks)
        assert walk.take(told) == (i < len(answers))
    return asked


def test_a_walk_asks_as_each_version_that_it_is_given() -> None:
    walk = Walk()
    asked = walked(walk, offer("1.0"), offer("2.0"), offer("3.0"), NO, NO)
    assert asked == ["0.0.0", "1.0", "2.0", "3.0", "3.0"]
    assert walk.ended
    assert walk.steps == {"1.0": True, "2.0": True, "3.0": False}


def test_a_noupdate_for_a_reached_step_is_questioned_once() -> None:
    walk = Walk()
    assert walked(walk, offer("1.0"), NO, offer("2.0"), NO, NO) == [
        "0.0.0",
        "1.0",
        "1.0",
        "2.0",
        "2.0",
    ]
    assert walk.steps == {"1.0": True, "2.0": False}


def test_two_noupdates_in_a_row_at_the_start_mean_that_nothing_is_offered() -> None:
    walk = Walk()
    assert walked(walk, NO, NO) == ["0.0.0", "0.0.0"]
    assert (walk.ended, walk.given, walk.policy) == (True, [], UpstreamPolicy.NO_UPDATE)


def test_a_poll_starts_as_the_version_that_is_known() -> None:
    walk = Walk("2.0")
    assert walked(walk, offer("3.0"), NO, NO) == ["2.0", "3.0", "3.0"]
    assert walk.steps == {"3.0": False}


def test_after_several_steps_at_once_the_next_question_is_as_their_target() -> None:
    walk = Walk()
    assert walked(walk, offer("1.0", "2.0", "3.0"), NO, NO) == ["0.0.0", "3.0", "3.0"]
    assert walk.steps == {"1.0": True, "2.0": True, "3.0": False}


def test_a_target_that_is_said_to_be_a_floor_is_one() -> None:
    walk = Walk()
    walked(walk, offer("1.0", floor=True), NO, NO)
    assert walk.steps == {"1.0": True}


@pytest.mark.parametrize("old", ["2.0", "2.0+other", "1.0"])
def test_an_offer_that_is_not_newer_is_ignored_with_words_and_ends_the_walk(old: str) -> None:
    walk = Walk()
    assert walked(walk, offer("2.0"), offer(old)) == ["0.0.0", "2.0"]
    assert walk.ended
    assert walk.steps == {"2.0": False}
    assert f"{old} was offered to a machine with 2.0" in walk.detail


def test_of_an_answer_only_what_is_newer_is_a_step() -> None:
    walk = Walk("2.0")
    walked(walk, offer("1.0", "2.0", "3.0", "4.0"), NO, NO)
    assert walk.steps == {"3.0": True, "4.0": False}


def test_a_busy_upstream_stops_a_walk_that_goes_on_later_where_it_was() -> None:
    walk = Walk()
    assert walked(walk, offer("1.0"), NO, BUSY) == ["0.0.0", "1.0", "1.0"]
    assert (walk.ended, walk.detail) == (False, "not now")
    assert walked(walk, offer("2.0"), NO, NO) == ["1.0", "2.0", "2.0"]
    assert walk.steps == {"1.0": True, "2.0": False}


def test_a_withdrawal_ends_a_walk_with_upstreams_words() -> None:
    walk = Walk()
    walked(walk, offer("1.0"), WITHDRAWN)
    assert (walk.ended, walk.policy, walk.detail) == (
        True,
        UpstreamPolicy.WITHDRAWN,
        "switched off",
    )


@pytest.mark.parametrize("last", [NO, offer("99.0")], ids=["noupdate", "offer"])
def test_a_walk_has_an_end_and_asks_as_the_last_version_before(last: UpstreamReading) -> None:
    walk = Walk()
    versions = [f"{i}.0" for i in range(1, MAX_STEPS + 1)]
    asked = walked(walk, *map(offer, versions), last)
    assert asked == ["0.0.0", *versions]
    assert list(walk.steps) == versions
    assert walk.ended


def test_a_step_is_pending_until_it_is_asked_as() -> None:
    walk = Walk()
    assert not walk.pending
    walk.take(offer("1.0"))
    assert walk.pending
    walk.take(NO)
    assert not walk.pending


class OneAtATime:
    """Grants one step at a time, and says `noupdate` once when it is reached, as Nebraska does."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.granted: str | None = None

    def answer(self, version: str) -> UpstreamReading:
        if self.granted == version:
            self.granted = None
            return NO
        ahead = [
            step for step in self.steps if int(step[:-2]) > int(version.split(".", maxsplit=1)[0])
        ]
        if not ahead:
            return NO
        self.granted = ahead[0]
        return offer(ahead[0])


class AllAtOnce(OneAtATime):
    """Answers with all manifests."""

    def answer(self, version: str) -> UpstreamReading:
        ahead = [
            step for step in self.steps if int(step[:-2]) > int(version.split(".", maxsplit=1)[0])
        ]
        return offer(*ahead) if ahead else NO


class Stubborn(OneAtATime):
    """Offers its newest to everybody, whatever they have."""

    def answer(self, version: str) -> UpstreamReading:
        return offer(self.steps[-1]) if self.steps else NO


@given(
    numbers=st.lists(st.integers(1, 99), unique=True, max_size=MAX_STEPS + 3),
    server=st.sampled_from([OneAtATime, AllAtOnce, Stubborn]),
)
def test_every_walk_ends_and_leaves_nothing_granted(
    numbers: list[int], server: Callable[[list[str]], OneAtATime]
) -> None:
    steps = [f"{n}.0" for n in sorted(numbers)]
    upstream = server(steps)
    walk = Walk()
    for _ in range(4 * MAX_STEPS):
        if not walk.take(upstream.answer(walk.asks)):
            break
    assert walk.ended
    assert upstream.granted is None
    if server is OneAtATime:
        assert list(walk.steps) == steps[:MAX_STEPS]
