"""Who asks much waits for its own, and holds up nobody else."""

import asyncio

import pytest

from omaha_mirror.web import fairness
from omaha_mirror.web.fairness import ByTurns, Recent, Requests


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many are handled as they come, however long the test takes."""
    monkeypatch.setattr(fairness, "FEW", 3)
    monkeypatch.setattr(fairness, "SECOND", 3600.0)
    return 3


async def test_who_asks_much_is_handled_by_turns_and_another_at_once(few: int) -> None:
    requests, handled = Requests(), list[str]()

    async def ask(address: str, name: str) -> None:
        await requests.turn(address)
        handled.append(name)

    asking = [("a", f"a{number}") for number in range(2 * few)]
    asking += [("b", f"b{number}") for number in range(2 * few)]
    asking += [("c", "c")]
    await asyncio.gather(*(ask(*one) for one in asking))
    assert handled[: 2 * few + 1] == ["a0", "a1", "a2", "b0", "b1", "b2", "c"]
    assert handled[2 * few + 1 :] == ["a3", "b3", "a4", "b4", "a5", "b5"]


async def test_who_has_left_takes_no_turn_from_the_others(few: int) -> None:
    requests = Requests()
    for _ in range(few):
        await requests.turn("a")
    waiting = [asyncio.create_task(requests.turn("a")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [True, False, False]


async def test_who_was_many_is_few_again_after_a_while(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = Recent()
    assert [recent.few("a") for _ in range(few + 1)] == [True] * few + [False]
    monkeypatch.setattr(fairness, "SECOND", 0.0)
    recent = Recent()
    assert all(recent.few("a") for _ in range(10 * few))


async def test_all_is_done_although_the_loop_never_has_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fairness, "LONG", 0.0)
    monkeypatch.setattr(fairness, "AT_LEAST", 0.001)
    done, over = list[int](), asyncio.Event()

    def do(number: int) -> None:
        done.append(number)
        if number == 9:
            over.set()

    turns = ByTurns[int](do, 2)
    for number in range(10):
        turns.put("a", number)
    await over.wait()
    assert done == list(range(10))
