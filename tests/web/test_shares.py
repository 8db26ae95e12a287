"""Whose connections make room: the rule, without any connection."""

import pytest

from omaha_mirror.web.shares import Shares, share_of


@pytest.fixture
def shares() -> Shares[str]:
    return Shares()


def fill(shares: Shares[str], key: str | None, *names: str) -> None:
    for name in names:
        shares.enter(name, key)
        shares.idle(name)


def test_who_has_most_gives_up_what_was_idle_longest(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2", "a3")
    fill(shares, "b", "b1", "b2")
    shares.busy("a1")
    assert shares.yields(0) == "a2"
    shares.idle("a1")
    assert shares.yields(0) == "a2"
    shares.leave("a2")
    assert shares.yields(1) in ("a3", "b1")


def test_what_is_slow_goes_after_what_is_idle_and_the_slowest_first(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2", "a3")
    shares.slow("a1", 5.0)
    shares.slow("a2", 2.0)
    assert shares.yields(0) == "a3"
    shares.busy("a3")
    assert shares.yields(0) == "a2"
    shares.busy("a2")
    assert shares.yields(0) == "a1"
    shares.busy("a1")
    assert shares.yields(0) is None


def test_who_is_idle_since_just_now_can_be_spared(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2")
    assert shares.yields(0, 1000) is None
    shares.slow("a2", 1.0)
    assert (shares.yields(0, 1000), shares.yields(0)) == ("a2", "a1")


def test_nobody_makes_room_for_an_address_that_has_as_many(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2")
    assert shares.yields(shares.count("a")) is None
    assert shares.yields(3) is None
    assert shares.yields(1) == "a1"


def test_where_the_largest_has_nothing_to_give_the_next_one_does(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2", "a3")
    fill(shares, "b", "b1", "b2")
    for name in ("a1", "a2", "a3"):
        shares.busy(name)
    assert shares.yields(1) == "b1"
    assert shares.yields(2) is None


def test_what_counts_for_nobody_is_not_given_up(shares: Shares[str]) -> None:
    fill(shares, None, "p1", "p2", "p3")
    assert (len(shares), shares.count(None), shares.yields(0)) == (3, 0, None)
    shares.enter("p1", "c")
    shares.idle("p1")
    assert (len(shares), shares.count("c"), shares.yields(0)) == (3, 1, "p1")
    shares.enter("p1", None)
    assert (len(shares), shares.count("c"), shares.yields(0)) == (3, 0, None)


def test_what_has_ended_is_forgotten(shares: Shares[str]) -> None:
    fill(shares, "a", "a1")
    shares.take("a1", 7)
    for _ in range(2):
        shares.leave("a1")
        shares.idle("a1")
        shares.slow("a1", 1.0)
        shares.take("a1", 7)
    assert (len(shares), shares.count("a"), shares.held, shares.yields(0)) == (0, 0, 0, None)
    assert not vars(shares)["_holders"]


def test_too_much_is_taken_from_who_holds_most(shares: Shares[str]) -> None:
    fill(shares, "a", "a1", "a2", "a3")
    fill(shares, "b", "b1")
    for name, count in {"a1": 10, "a2": 20, "a3": 30, "b1": 50}.items():
        shares.take(name, count)
    assert shares.too_much(110) == []
    assert shares.too_much(90) == ["a1", "a2"]
    shares.busy("a1")
    assert shares.too_much(40) == ["a2", "a3", "b1"]
    shares.free("a2")
    assert shares.held == 90
    assert shares.too_much(80) == ["b1"]


def test_what_moves_takes_what_it_holds_along(shares: Shares[str]) -> None:
    fill(shares, None, "p1")
    shares.take("p1", 10)
    assert shares.too_much(0) == []
    shares.enter("p1", "c")
    shares.idle("p1")
    assert (shares.held, shares.too_much(0)) == (10, ["p1"])


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_a_share_is_an_address_or_a_network(address: str, share: str) -> None:
    assert share_of(address) == share
