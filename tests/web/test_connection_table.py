"""Which connections are closed at the limit: the rule, without any connection."""

import pytest

from omaha_mirror.web.connection_table import ConnectionTable, client_key


@pytest.fixture
def table() -> ConnectionTable[str]:
    return ConnectionTable()


def fill(table: ConnectionTable[str], key: str | None, *names: str) -> None:
    for name in names:
        table.add(name, key)
        table.set_idle(name)


def test_who_has_most_gives_up_what_was_idle_longest(table: ConnectionTable[str]) -> None:
    fill(table, "a", "a1", "a2", "a3")
    fill(table, "b", "b1", "b2")
    table.set_busy("a1")
    assert table.to_close(0) == "a2"
    table.set_idle("a1")
    assert table.to_close(0) == "a2"
    table.remove("a2")
    assert table.to_close(1) in ("a3", "b1")


def test_what_is_slow_goes_after_what_is_idle_and_the_slowest_first(
    table: ConnectionTable[str],
) -> None:
    fill(table, "a", "a1", "a2", "a3")
    table.set_slow("a1", 5.0)
    table.set_slow("a2", 2.0)
    assert table.to_close(0) == "a3"
    table.set_busy("a3")
    assert table.to_close(0) == "a2"
    table.set_busy("a2")
    assert table.to_close(0) == "a1"
    table.set_busy("a1")
    assert table.to_close(0) is None


def test_who_is_idle_since_just_now_can_be_spared(table: ConnectionTable[str]) -> None:
    fill(table, "a", "a1", "a2")
    assert table.to_close(0, 1000) is None
    table.set_slow("a2", 1.0)
    assert (table.to_close(0, 1000), table.to_close(0)) == ("a2", "a1")


def test_nobody_makes_room_for_an_address_that_has_as_many(table: ConnectionTable[str]) -> None:
    fill(table, "a", "a1", "a2")
    assert table.to_close(table.count("a")) is None
    assert table.to_close(3) is None
    assert table.to_close(1) == "a1"


def test_where_the_largest_has_nothing_to_give_the_next_one_does(
    table: ConnectionTable[str],
) -> None:
    fill(table, "a", "a1", "a2", "a3")
    fill(table, "b", "b1", "b2")
    for name in ("a1", "a2", "a3"):
        table.set_busy(name)
    assert table.to_close(1) == "b1"
    assert table.to_close(2) is None


def test_what_counts_for_nobody_is_not_given_up(table: ConnectionTable[str]) -> None:
    fill(table, None, "p1", "p2", "p3")
    assert (len(table), table.count(None), table.to_close(0)) == (3, 0, None)
    table.add("p1", "c")
    table.set_idle("p1")
    assert (len(table), table.count("c"), table.to_close(0)) == (3, 1, "p1")
    table.add("p1", None)
    assert (len(table), table.count("c"), table.to_close(0)) == (3, 0, None)


def test_what_has_ended_is_forgotten(table: ConnectionTable[str]) -> None:
    fill(table, "a", "a1")
    table.hold("a1", 7)
    for _ in range(2):
        table.remove("a1")
        table.set_idle("a1")
        table.set_slow("a1", 1.0)
        table.hold("a1", 7)
    assert (len(table), table.count("a"), table.held, table.to_close(0)) == (0, 0, 0, None)
    assert not vars(table)["_holders"]


def test_too_much_is_taken_from_who_holds_most(table: ConnectionTable[str]) -> None:
    fill(table, "a", "a1", "a2", "a3")
    fill(table, "b", "b1")
    for name, count in {"a1": 10, "a2": 20, "a3": 30, "b1": 50}.items():
        table.hold(name, count)
    assert table.heaviest(110) == []
    assert table.heaviest(90) == ["a1", "a2"]
    table.set_busy("a1")
    assert table.heaviest(40) == ["a2", "a3", "b1"]
    table.drop_held("a2")
    assert table.held == 90
    assert table.heaviest(80) == ["b1"]


def test_what_moves_takes_what_it_holds_along(table: ConnectionTable[str]) -> None:
    fill(table, None, "p1")
    table.hold("p1", 10)
    assert table.heaviest(0) == ["p1"]
    table.add("p1", "c")
    assert table.heaviest(0) == []
    table.set_idle("p1")
    assert (table.held, table.heaviest(0)) == (10, ["p1"])


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
    assert client_key(address) == share
