"""What a walk changes of what is known of a channel."""

import pytest

from omaha_mirror.catalog import Reason, Step, UpstreamPolicy, UpstreamReading
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel, below, floors, merged
from omaha_mirror.catalog.walk import Walk
from tests.catalog.scene import APP, BOARD
from tests.catalog.test_walk import BUSY, NO, WITHDRAWN, offer

NOW = 1000.0
OLD = Channel(
    (Step("1.0", floor=True, seen=10.0), Step("2.0", seen=20.0)),
    UpstreamPolicy.OFFERS,
    answered=30.0,
    walked=30.0,
)


def after(*answers: UpstreamReading, known: str | None = None, old: Channel = OLD) -> Channel:
    """What is known after a walk with these answers."""
    walk = Walk(known)
    for told in answers:
        walk.take(told)
    return merged(old, walk, NOW)


def shape(channel: Channel) -> list[tuple[str, bool, float]]:
    return [(step.version, step.floor, step.seen) for step in channel.offered]


def test_a_whole_walk_replaces_the_steps_and_keeps_when_a_version_was_first_seen() -> None:
    new = after(offer("2.0"), offer("3.0"), NO, NO)
    assert shape(new) == [("2.0", True, 20.0), ("3.0", False, NOW)]
    assert (new.answered, new.walked) == (NOW, NOW)


def test_a_version_that_upstream_took_back_is_gone_after_a_whole_walk() -> None:
    assert shape(after(offer("1.0"), NO, NO)) == [("1.0", False, 10.0)]


def test_a_poll_that_finds_nothing_changes_only_the_age() -> None:
    new = after(NO, NO, known="2.0")
    assert shape(new) == shape(OLD)
    assert (new.answered, new.walked) == (NOW, 30.0)


def test_a_poll_adds_and_what_it_was_led_on_from_is_a_floor_until_a_whole_walk() -> None:
    new = after(offer("3.0"), offer("4.0"), NO, NO, known="2.0")
    assert shape(new) == [
        ("1.0", True, 10.0),
        ("2.0", True, 20.0),
        ("3.0", True, NOW),
        ("4.0", False, NOW),
    ]


@pytest.mark.parametrize("cut", [(), (BUSY,)], ids=["outage", "busy"])
def test_a_walk_that_was_cut_short_takes_nothing_away(cut: tuple[UpstreamReading, ...]) -> None:
    new = after(offer("1.0"), offer("1.5"), *cut)
    assert shape(new) == [("1.0", True, 10.0), ("1.5", False, NOW), ("2.0", False, 20.0)]
    assert new.walked == 30.0
    assert after(*cut, BUSY, known="2.0").offered == OLD.offered


def test_a_walk_that_was_cut_short_counts_whole_once_it_ends() -> None:
    walk = Walk()
    walk.take(offer("1.0"))
    walk.take(BUSY)
    part = merged(Channel(), walk, NOW)
    assert shape(part) == [("1.0", False, NOW)]
    for told in (offer("3.0"), NO, NO):
        walk.take(told)
    assert shape(merged(part, walk, NOW + 5)) == [("1.0", True, NOW), ("3.0", False, NOW + 5)]


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        ((NO, NO), Reason.NO_UPDATE_UPSTREAM, ""),
        ((WITHDRAWN,), Reason.WITHDRAWN, "switched off"),
        ((offer("1.0"), WITHDRAWN), Reason.WITHDRAWN, "switched off"),
        ((offer("0.0.0"),), Reason.NO_UPDATE_UPSTREAM, "0.0.0 was offered"),
    ],
    ids=["noupdate", "withdrawn", "withdrawn on the way", "nothing newer"],
)
def test_what_upstream_takes_back_is_not_offered(
    answers: tuple[UpstreamReading, ...], reason: Reason, detail: str
) -> None:
    new = after(*answers)
    assert new.offered == ()
    assert new.nothing[0] is reason
    assert detail in new.nothing[1]


def test_a_withdrawal_told_to_a_poll_counts_too() -> None:
    new = after(WITHDRAWN, known="2.0")
    assert (new.offered, new.nothing) == ((), (Reason.WITHDRAWN, "switched off"))


def test_a_pause_upstream_does_not_make_a_version_new() -> None:
    paused = after(WITHDRAWN)
    assert shape(after(offer("2.0"), NO, NO, old=paused)) == [("2.0", False, 20.0)]


def test_after_a_withdrawal_only_what_is_given_again_is_offered() -> None:
    paused = after(WITHDRAWN)
    assert shape(after(offer("1.0"), BUSY, old=paused)) == [("1.0", False, 10.0)]


@pytest.mark.parametrize("old", [Channel(), after(WITHDRAWN)], ids=["new", "withdrawn"])
def test_a_busy_upstream_of_which_nothing_is_known_is_the_reason(old: Channel) -> None:
    assert after(BUSY, old=old).nothing == (Reason.BUSY, "not now")


def test_an_unasked_channel_is_warming() -> None:
    assert Channel().nothing == (Reason.WARMING, "")


def test_the_floors_below_a_version_are_those_of_all_tracks_of_the_app_and_board() -> None:
    other = Channel((Step("0.5", floor=True), Step("1.5", floor=True)), UpstreamPolicy.WITHDRAWN)
    kept = [
        KeptChannel(ChannelKey(APP, BOARD, "stable"), OLD, 0.0),
        KeptChannel(ChannelKey(APP, BOARD, "beta"), other, 0.0),
        KeptChannel(ChannelKey(APP, "arm64-usr", "stable"), other, 0.0),
        KeptChannel(ChannelKey("another", BOARD, "stable"), other, 0.0),
    ]
    all_floors = floors(kept, APP, BOARD)
    assert [step.version for step in below(all_floors, "2.0")] == ["0.5", "1.0", "1.5"]
    assert [step.version for step in below(all_floors, "1.5")] == ["0.5", "1.0"]
    assert [step.version for step in below(floors(kept, APP, "arm64-usr"), "1.0")] == ["0.5"]
