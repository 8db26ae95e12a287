"""The books of a cache directory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.cache.errors import NeverFits, NoSpaceNow
from omaha_mirror.cache.space import Ledger

PLENTY = 10**9


def nothing(_key: str) -> bool:
    return False


def ledger(max_size: int = 100, min_free: int = 0, **sizes: int) -> Ledger:
    """Blobs in the order of their last use, the oldest first."""
    books = Ledger(max_size, min_free)
    for i, (key, size) in enumerate(sizes.items()):
        books.settle(key, size, float(i))
    return books


@pytest.mark.parametrize(
    ("books", "size", "free", "expected"),
    [
        pytest.param(ledger(a=40, b=40), 20, PLENTY, [], id="there is room"),
        pytest.param(ledger(a=40, b=40), 21, PLENTY, ["a"], id="the oldest goes"),
        pytest.param(ledger(a=40, b=40), 61, PLENTY, ["a", "b"], id="as many as needed"),
        pytest.param(ledger(a=40, b=40), 100, PLENTY, ["a", "b"], id="as large as the cache"),
        pytest.param(ledger(min_free=10, a=40), 20, 30, [], id="min_free is kept"),
        pytest.param(ledger(min_free=10, a=40), 20, 29, ["a"], id="a blob goes for min_free"),
    ],
)
def test_victims(books: Ledger, size: int, free: int, expected: list[str]) -> None:
    assert books.victims(size, free=free, keep=nothing) == expected


def test_what_must_stay_stays() -> None:
    books = ledger(a=40, b=40)
    assert books.victims(30, free=PLENTY, keep=lambda key: key == "a") == ["b"]


def test_no_more_are_asked_about_than_must_go() -> None:
    books, asked = ledger(a=40, b=30, c=30), list[str]()
    assert books.victims(30, free=PLENTY, keep=lambda key: bool(asked.append(key))) == ["a"]  # type: ignore[func-returns-value]
    assert asked == ["a"]


def test_larger_than_the_cache_never_fits() -> None:
    with pytest.raises(NeverFits, match="101 bytes do not fit into a cache of at most 100"):
        ledger().victims(101, free=PLENTY, keep=nothing)


def test_everything_in_use_is_no_room_now() -> None:
    with pytest.raises(NoSpaceNow, match="in use or offered"):
        ledger(a=90).victims(20, free=PLENTY, keep=lambda _key: True)


def test_a_full_disk_is_no_room_now() -> None:
    with pytest.raises(NoSpaceNow, match="the disk is 5 bytes short"):
        ledger(min_free=10, a=20).victims(20, free=5, keep=nothing)


def test_a_touched_blob_is_the_last_to_go() -> None:
    books = ledger(a=40, b=40)
    books.touch("a", 9.0)
    assert books.victims(30, free=PLENTY, keep=nothing) == ["b"]


def test_a_use_is_never_put_back() -> None:
    books = ledger(a=40, b=40)
    books.touch("b", -1.0)
    assert books.victims(30, free=PLENTY, keep=nothing) == ["a"]


def test_a_reservation_counts_whole_until_it_is_settled_or_released() -> None:
    books = ledger(a=40)
    books.reserve("b", 60)
    assert books.used == 100
    assert books.victims(1, free=PLENTY, keep=nothing) == ["a"]
    books.settle("b", 60, 5.0)
    assert (books.used, books.reserved) == (100, {})
    books.reserve("c", 50)
    books.release("c")
    assert books.used == 100


def test_of_a_reservation_only_what_is_not_yet_written_is_still_taken_from_the_disk() -> None:
    books = ledger()
    books.reserve("b", 60)
    with pytest.raises(NoSpaceNow):
        books.victims(10, free=50, keep=nothing)
    books.wrote("b", 20)
    assert books.victims(10, free=50, keep=nothing) == []
    books.wrote("b", 20)
    assert books.reserved["b"].written == 20, "the total, not what came since"


def test_unknown_keys_are_of_no_consequence() -> None:
    books = ledger(a=1)
    books.touch("x", 1.0)
    books.wrote("x", 1)
    books.release("x")
    books.remove("x")
    assert (books.used, list(books.entries)) == (1, ["a"])


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), max_size=6),
    st.sets(st.sampled_from("abcdef")),
    st.lists(st.integers(0, 30), max_size=2),
    st.integers(0, 120),
    st.integers(0, 200),
    st.integers(0, 20),
)
def test_victims_make_enough_room_and_no_more(
    sizes: dict[str, int], kept: set[str], reserved: list[int], size: int, free: int, min_free: int
) -> None:
    books = ledger(100, min_free, **sizes)
    for i, room in enumerate(reserved):
        books.reserve(f"r{i}", room)

    def fits(gone: list[str]) -> bool:
        freed = sum(sizes[key] for key in gone)
        enough = books.used - freed + size <= books.max_size
        return enough and free + freed - size - sum(reserved) >= min_free

    try:
        gone = books.victims(size, free=free, keep=kept.__contains__)
    except NeverFits:
        assert size > 100
    except NoSpaceNow:
        assert not fits([key for key in sizes if key not in kept])
    else:
        assert not kept & set(gone)
        assert fits(gone)
        assert not gone or not fits(gone[:-1]), "the last one had to go as well"
        assert gone == [key for key in sizes if key not in kept][: len(gone)], "oldest first"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["settle", "touch", "remove", "reserve", "release"]),
            st.sampled_from("abc"),
            st.integers(0, 50),
        )
    )
)
def test_what_is_used_is_the_sum_of_what_is_there(steps: list[tuple[str, str, int]]) -> None:
    books = ledger()
    for step, key, size in steps:
        match step:
            case "settle":
                books.settle(key, size, 1.0)
            case "touch":
                books.touch(key, 2.0)
            case "remove":
                books.remove(key)
            case "reserve":
                books.reserve(key, size)
            case _:
                books.release(key)
        proven = sum(entry.size for entry in books.entries.values())
        assert books.used == proven + sum(room.size for room in books.reserved.values())
