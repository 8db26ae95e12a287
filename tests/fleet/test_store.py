"""What a batch leaves in the database, on SQLite and PostgreSQL alike."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import func, select, text

from omaha_mirror.fleet import Served, State, store
from omaha_mirror.fleet.schema import METADATA, REPORTS, STRETCHES
from tests.fleet.scene import (
    ASK,
    DAY,
    GOT,
    HELD,
    HOUR,
    NOW,
    OFFERED,
    PING,
    Site,
    event,
    machine,
)


async def rows(site: Site) -> dict[str, int]:
    async with site.database.engine.connect() as connection:
        return {
            table.name: (await connection.execute(select(func.count()).select_from(table))).scalar()
            or 0
            for table in METADATA.sorted_tables
        }


async def test_a_machine_is_as_it_was_last_heard_of(site: Site) -> None:
    await site.write(ASK)
    await site.write(replace(OFFERED, time=NOW + 60, address="192.0.2.8", alias="web-2"))
    machine = (await site.history()).machine
    assert (machine.address, machine.alias, machine.state) == ("192.0.2.8", "web-2", State.GRANTED)
    assert (machine.first_seen, machine.last_seen) == (NOW, NOW + 60)
    assert (machine.reason, machine.offered, machine.oem) == ("offered", "3815.2.1", "azure")


async def test_the_same_answer_again_is_counted_and_not_kept_again(site: Site) -> None:
    answers = [replace(HELD, time=NOW + n * HOUR) for n in range(4)]
    await site.write(*answers[:3])
    newest = replace(answers[3], detail="the track is held still")
    await site.write(newest)
    [stretch] = (await site.history()).stretches
    assert (stretch.first, stretch.last, stretch.count) == (NOW, NOW + 3 * HOUR, 4)
    assert stretch.detail == "the track is held still"


async def test_batches_of_the_same_answer_write_counts_alone(site: Site) -> None:
    """The end of a stretch is written down when another begins, wherever batches end."""
    news: list[Any] = [
        *(replace(HELD, time=NOW + n) for n in range(5)),
        replace(PING, time=NOW + 5),
        *(replace(HELD, time=NOW + 6 + n) for n in range(3)),
        replace(OFFERED, time=NOW + 9, count=3, first=NOW + 8.5),
        replace(PING, time=NOW + 10, track="beta"),
        *(replace(HELD, time=NOW + n, track="beta") for n in (11, 12)),
        replace(event(13, 1), time=NOW + 13),
    ]
    for size in (1, 2, 3, 20):
        told = [replace(item, machineid=f"{size}") for item in news]
        for start in range(0, len(told), size):
            await site.write(*told[start : start + size])
        history = await site.history(f"{size}")
        assert (history.machine.last_seen, history.machine.asked) == (NOW + 13, 2)
        assert [(s.first, s.last, s.count, s.reason) for s in history.stretches] == [
            (NOW + 11, NOW + 12, 2, "held"),
            (NOW + 8.5, NOW + 9, 3, "offered"),
            (NOW, NOW + 8, 8, "held"),
        ]


async def test_the_same_check_again_writes_one_small_row(site: Site) -> None:
    await site.write(*map(machine, range(300)))
    written: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        written.append(statement.split(" (", maxsplit=1)[0])

    hooks.listen(site.database.writer, "before_cursor_execute", note)
    await site.write(*(replace(machine(n), time=NOW + 60) for n in range(300)))
    assert len([each for each in written if each.startswith("INSERT")]) < 10
    assert {each for each in written if each.startswith("INSERT")} == {"INSERT INTO latest"}
    assert (await site.history(machine(7).machineid)).machine.asked == 2


async def test_an_answer_that_lasts_is_not_forgotten(site: Site) -> None:
    await site.write(replace(HELD, time=NOW - 9 * DAY))
    await site.write(replace(HELD, time=NOW))
    await store.upkeep(site.database, NOW, retention=5 * DAY)
    [stretch] = (await site.history()).stretches
    assert (stretch.first, stretch.last, stretch.count) == (NOW - 9 * DAY, NOW, 2)


async def test_another_question_or_answer_begins_a_stretch(site: Site) -> None:
    changes: list[dict[str, Any]] = [
        {"version": "3815.2.1"},
        {"track": "beta"},
        {"reason": "up-to-date"},
    ]
    for n, change in enumerate(changes):
        held = replace(HELD, machineid=str(n))
        await site.write(held, replace(held, time=NOW + 1, **change), replace(held, time=NOW + 2))
        newest, *_ = stretches = (await site.history(str(n))).stretches
        assert [s.count for s in stretches] == [1, 1, 1]
        assert (newest.first, newest.reason, newest.track) == (NOW + 2, "held", "stable")


async def test_a_change_that_only_a_ping_told_of_begins_a_stretch(site: Site) -> None:
    moved = replace(HELD, track="beta", time=NOW + 2)
    await site.write(HELD, replace(PING, track="beta", time=NOW + 1), moved)
    assert [s.track for s in (await site.history()).stretches] == ["beta", "stable"]


async def test_a_ping_between_two_equal_answers_changes_nothing(site: Site) -> None:
    await site.write(HELD, PING, HELD)
    [stretch] = (await site.history()).stretches
    assert stretch.count == 2


async def test_events_are_kept_with_their_codes(site: Site) -> None:
    await site.write(event(13, 1), event(3, 0, 268435465))
    history = await site.history()
    assert [(e.eventtype, e.eventresult, e.errorcode) for e in history.events] == [
        (3, 0, 268435465),
        (13, 1, None),
    ]
    assert history.machine.errorcode == 268435465
    await site.write(OFFERED)
    assert (await site.history()).machine.errorcode is None


async def test_an_event_makes_a_machine_known(site: Site) -> None:
    await site.write(event(14, 1))
    found = (await site.history()).machine
    assert (found.state, found.version, found.address) == (
        State.DOWNLOADED,
        "3815.2.0",
        ASK.address,
    )


async def test_an_old_answer_does_not_turn_back_the_clock(site: Site) -> None:
    await site.write(ASK, replace(PING, time=NOW - 5))
    assert (await site.history()).machine.last_seen == NOW


async def test_no_machine_can_fill_the_database(site: Site) -> None:
    news = [replace(ASK, reason=f"r{n}", time=NOW + n) for n in range(STRETCHES + 7)]
    await site.write(*news)
    await site.write(*(replace(event(77, n), time=NOW + n) for n in range(REPORTS + 7)))
    history = await site.history()
    assert len(history.stretches) == STRETCHES
    assert history.stretches[0].reason == f"r{STRETCHES + 6}"
    assert [e.eventresult for e in history.events] == list(range(REPORTS + 6, 6, -1))


async def test_transfers_add_up_by_day_release_and_cache_status(site: Site) -> None:
    await site.write(GOT, GOT, replace(GOT, cache_status="miss"))
    await site.write(GOT, replace(GOT, time=NOW + DAY), replace(GOT, name="oem-azure.gz"))
    assert (await rows(site))["transfers"] == 4
    today = NOW // DAY * DAY
    assert await site.reader.served() == (
        Served(int(today), "hit", 4, 400, 2.0),
        Served(int(today), "miss", 1, 100, 0.5),
        Served(int(today + DAY), "hit", 1, 100, 0.5),
    )


async def test_a_batch_is_written_whole_or_not_at_all(site: Site) -> None:
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE transfers RENAME TO elsewhere"))
    with pytest.raises(Exception, match="transfers"):
        await site.write(ASK, event(13, 1), GOT)
    async with site.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO transfers"))
    assert set((await rows(site)).values()) == {0}


async def test_upkeep_forgets_what_is_older_than_the_retention(site: Site) -> None:
    silent = replace(machine(1), time=NOW - 10 * DAY)
    await site.write(silent, event(13, 1, asked=silent), replace(GOT, time=NOW - 12 * DAY))
    await store.upkeep(site.database, NOW - 10 * DAY, retention=20 * DAY)
    await site.write(
        replace(ASK, reason="warming", time=NOW - 10 * DAY),
        replace(event(13, 1), time=NOW - 10 * DAY),
        event(14, 1),
        ASK,
        GOT,
    )
    await store.upkeep(site.database, NOW, retention=5 * DAY)
    history = await site.history()
    assert [s.reason for s in history.stretches] == ["up-to-date"]
    assert [e.eventtype for e in history.events] == [14]
    kept = {"machines": 1, "latest": 1, "checkins": 1, "events": 1, "transfers": 1, "census": 2}
    assert await rows(site) == kept


async def test_of_too_many_machines_the_longest_silent_go(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_MACHINES", 3)
    news = [replace(machine(n), time=NOW + n) for n in range(5)]
    await site.write(*news, *(event(13, 1, asked=asked) for asked in news))
    await store.upkeep(site.database, NOW, retention=DAY)
    await store.bound(site.database)
    assert await rows(site) == {
        "machines": 3,
        "latest": 3,
        "checkins": 3,
        "events": 3,
        "transfers": 0,
        "census": 2,
    }
    assert await site.reader.machine(machine(1).machineid) is None
    assert await site.reader.machine(machine(2).machineid) is not None


async def test_the_longest_texts_fit_into_every_index(site: Site) -> None:
    """PostgreSQL takes no more than 2704 bytes, and compresses what is not random."""
    rng = Random(1)

    def text() -> str:
        return "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(1000))

    machineid, alias, address = text(), text(), text()
    got = replace(GOT, release=text(), name=text(), cache_status=text())
    await site.write(replace(ASK, machineid=machineid, alias=alias, address=address), got)
    assert (await site.history(machineid)).machine.alias == alias[:200]
    assert (await rows(site))["transfers"] == 1


async def test_what_a_wrong_clock_noted_is_put_down_as_now(site: Site) -> None:
    """Nine years ahead, or in 1970: the machines, what they were told, what they reported, and what was sent."""
    later, never = NOW + 9 * 365 * DAY, 60.0
    asked = [replace(machine(1), time=later), replace(machine(2), time=never)]
    told = [replace(machine(3), time=NOW - 50 * DAY)]
    await site.write(*asked, *told, *(event(13, 1, asked=each) for each in (*asked, *told)))
    await site.write(replace(GOT, time=later), replace(GOT, time=NOW))
    await store.upkeep(site.database, later, retention=90 * 365 * DAY)
    await store.redate(site.database, NOW)
    await store.upkeep(site.database, NOW, retention=60 * DAY)
    for number, when in ((1, NOW), (2, NOW), (3, NOW - 50 * DAY)):
        history = await site.history(machine(number).machineid)
        assert history.machine.last_seen == when
        assert [stretch.last for stretch in history.stretches] == [when]
    assert (await rows(site))["transfers"] == 1
    assert (await rows(site))["census"] == 2
    await store.upkeep(site.database, NOW + 61 * DAY, retention=60 * DAY)
    assert (await rows(site))["machines"] == 0


async def test_made_up_machines_go_before_real_ones(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real ones: there for days, though silent for hours; new, and back once; new, with a download under way."""
    monkeypatch.setattr(store, "MAX_MACHINES", 1000)
    real = {
        "for days": [replace(machine(n), time=NOW - 5 * DAY) for n in range(100)],
        "back": [replace(machine(n), time=NOW - 2 * HOUR) for n in range(100, 200)],
        "downloads": [replace(machine(n), time=NOW - 2 * HOUR) for n in range(200, 300)],
    }
    await site.write(*real["for days"], *real["back"], *real["downloads"])
    await site.write(*(replace(each, time=NOW - HOUR) for each in real["for days"] + real["back"]))
    await site.write(*(event(13, 1, asked=each) for each in real["downloads"]))
    for start in range(1000, 6000, 1000):
        await site.write(*(replace(machine(n), time=NOW) for n in range(start, start + 1000)))
        await store.bound(site.database)
    assert (await rows(site))["machines"] == 1000
    for kind, machines in real.items():
        for each in machines:
            assert await site.reader.machine(each.machineid) is not None, kind


async def test_who_comes_back_soon_does_not_push_out_who_was_there_for_a_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests and a made-up download for each made-up machine."""
    monkeypatch.setattr(store, "MAX_MACHINES", 300)
    real = [replace(machine(n), time=NOW - 2 * DAY) for n in range(100)]
    await site.write(*real)
    await site.write(*(replace(each, time=NOW - HOUR) for each in real))
    made_up = [replace(machine(n), time=NOW) for n in range(1000, 2000)]
    await site.write(*made_up, *(event(14, 1, asked=each) for each in made_up))
    await site.write(*(replace(each, time=NOW + 1) for each in made_up))
    await store.bound(site.database)
    assert (await rows(site))["machines"] == 300
    for each in real:
        assert await site.reader.machine(each.machineid) is not None
