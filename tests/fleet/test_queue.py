"""The queue never grows beyond its bounds, and what repeats itself goes first."""

from dataclasses import replace

from omaha_mirror.fleet import BoundedQueue
from omaha_mirror.fleet.model import Item, weight
from tests.fleet.scene import ASK, GOT, OFFERED, PING, event

FAILED = event(3, 0, 9)


def items(backlog: BoundedQueue) -> list[Item]:
    return [waiting.item for waiting in backlog.take(1000)]


def test_items_leave_in_the_order_in_which_they_came() -> None:
    backlog = BoundedQueue()
    news: list[Item] = [PING, FAILED, ASK, GOT, OFFERED, PING]
    for item in news:
        backlog.put(item)
    first = [waiting.item for waiting in backlog.take(2)]
    assert first + items(backlog) == news
    assert (len(backlog), backlog.bytes, backlog.dropped) == (0, 0, 0)


def test_the_same_check_again_is_a_number() -> None:
    backlog = BoundedQueue()
    later = replace(OFFERED, time=OFFERED.time + 60)
    news: list[Item] = [
        OFFERED,
        later,
        FAILED,
        OFFERED,
        replace(OFFERED, track="beta"),
        later,
        later,
    ]
    for item in news:
        backlog.put(item)
    first, *others = backlog.take(2)
    backlog.put(later)
    backlog.give_back([first, *others])
    assert [(waiting.whole(), waiting.count) for waiting in backlog.take(1)] == [
        (replace(OFFERED, time=later.time, first=OFFERED.time, count=2), 2)
    ]
    waiting = backlog.take(100)
    assert [each.item.time for each in waiting] == [OFFERED.time] * 3 + [later.time]
    assert [each.count for each in waiting] == [1, 1, 1, 3]
    assert backlog.reports == 0


def test_what_repeats_itself_is_dropped_first_and_the_oldest_of_it() -> None:
    backlog = BoundedQueue(max_items=4)
    newer = replace(PING, time=PING.time + 1)
    for item in (FAILED, PING, OFFERED, newer, GOT):
        backlog.put(item)
    assert items(backlog) == [FAILED, OFFERED, newer, GOT]
    assert backlog.dropped == 1


def test_the_oldest_goes_when_nothing_repeats_itself() -> None:
    backlog = BoundedQueue(max_items=2)
    for item in (FAILED, OFFERED, GOT):
        backlog.put(item)
    assert items(backlog) == [OFFERED, GOT]
    assert backlog.dropped == 1


def test_memory_is_bounded() -> None:
    heavy = replace(OFFERED, detail="x" * 300)
    backlog = BoundedQueue(max_bytes=10 * weight(heavy))
    for n in range(50):
        backlog.put(replace(heavy, machineid=f"{n:0{len(heavy.machineid)}}"))
    assert len(backlog) == 10
    assert backlog.bytes <= 10 * weight(heavy)
    assert backlog.dropped == 40


def test_a_batch_that_is_given_back_comes_first_again_within_the_bounds() -> None:
    backlog = BoundedQueue(max_items=3)
    for item in (FAILED, PING, OFFERED):
        backlog.put(item)
    batch = backlog.take(2)
    backlog.put(GOT)
    backlog.give_back(batch)
    assert items(backlog) == [FAILED, OFFERED, GOT]
    assert (backlog.bytes, backlog.dropped) == (0, 1)


def test_all_that_is_given_up_is_counted() -> None:
    backlog = BoundedQueue()
    backlog.put(ASK)
    backlog.put(GOT)
    backlog.drop_all()
    assert (len(backlog), backlog.bytes, backlog.dropped) == (0, 0, 2)
