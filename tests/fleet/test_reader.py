"""Questions about the fleet, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import text

from omaha_mirror.fleet import (
    FETCHED,
    Census,
    Database,
    FleetReader,
    FleetUnavailable,
    MachineQuery,
    State,
    store,
)
from omaha_mirror.fleet.listing import Sort
from tests.fleet.scene import ASK, DAY, GOT, HELD, HOUR, NOW, OFFERED, Site, event, machine

FLEET = [
    replace(machine(1), version="3815.2.10", time=NOW - 1, address="192.0.2.1"),
    replace(machine(2), version="3815.2.9", time=NOW - 2, reason="held"),
    replace(machine(3), version="3815.2.10-dev", time=NOW - 3, track="beta", board="arm64-usr"),
    replace(machine(4), version="what?", time=NOW - 4, alias="Web-100%_\\x", oem=""),
]


@pytest.fixture
async def fleet(site: Site) -> FleetReader:
    await site.write(*FLEET)
    return site.reader


async def found(fleet: FleetReader, query: MachineQuery) -> list[int]:
    page = await fleet.machines(query)
    assert page.total == len(page.machines)
    return [int(machine.machineid) for machine in page.machines]


SEARCHES = {
    "node-2": [2],
    "NODE-": [1, 2, 3],
    "0003": [3],
    "192.0.2.1": [1],
    "192.0.2": [1, 2, 3, 4],
    "0%_": [4],
    "%": [4],
    "_": [4],
    "\\": [4],
    "web-100": [4],
    "' OR 1=1 --": [],
    "node-1\n192": [],
    "\0": [],
    "x" * 5000: [],
}


async def test_search_looks_for_a_part_of_id_alias_or_address(fleet: FleetReader) -> None:
    answers = {search: await found(fleet, MachineQuery(search=search)) for search in SEARCHES}
    assert answers == SEARCHES


QUERIES = {
    MachineQuery(): [1, 2, 3, 4],
    MachineQuery(state=State.ON_HOLD): [2],
    MachineQuery(version="3815.2.9"): [2],
    MachineQuery(track="beta"): [3],
    MachineQuery(board="amd64-usr"): [1, 2, 4],
    MachineQuery(board="amd64-usr", search="node", state=State.COMPLETE): [1],
    MachineQuery(descending=False): [4, 3, 2, 1],
    MachineQuery(sort="machineid"): [4, 3, 2, 1],
    MachineQuery(sort="version"): [1, 3, 2, 4],
    MachineQuery(sort="version", descending=False): [4, 2, 3, 1],
}


async def test_filters_and_orders(fleet: FleetReader) -> None:
    answers = {query: await found(fleet, query) for query in QUERIES}
    assert answers == QUERIES


async def test_any_order_works_on_an_empty_fleet(site: Site) -> None:
    for sort in get_args(Sort):
        assert (await site.reader.machines(MachineQuery(sort=sort))).machines == ()


async def test_pages_hold_each_machine_once(site: Site) -> None:
    await site.write(*map(machine, range(7)))  # all at one time: the order is left to the id
    pages = [
        await site.reader.machines(MachineQuery(page=page, per_page=3)) for page in range(1, 5)
    ]
    assert [len(page.machines) for page in pages] == [3, 3, 1, 0]
    assert {page.total for page in pages} == {7}
    assert len({machine.id for page in pages for machine in page.machines}) == 7


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_put_together_are_one_order(site: Site, descending: bool) -> None:
    """Those of the second half are looked for from the end."""
    await site.write(*(replace(machine(n), alias=f"{n // 2}") for n in range(9)))
    query = MachineQuery(sort="alias", descending=descending, per_page=2)
    whole = (await site.reader.machines(replace(query, per_page=9))).machines
    pages = [await site.reader.machines(replace(query, page=page)) for page in range(1, 6)]
    assert [machine for page in pages for machine in page.machines] == list(whole)
    aliases = [machine.alias for machine in whole]
    assert aliases == sorted(aliases, reverse=descending)


async def test_several_counts_are_one_answer(fleet: FleetReader) -> None:
    counts = await fleet.counts("track", "state")
    assert counts == {
        "track": {"stable": 3, "beta": 1},
        "state": {"complete": 3, "on hold": 1},
    }


async def test_who_asks_while_the_tables_are_made_waits_for_them(url: str) -> None:
    database = Database(url)
    making = asyncio.create_task(database.migrate())
    await asyncio.sleep(0)
    assert await FleetReader(database).count_by("state") == {}
    await making
    await database.close()


async def test_a_senseless_page_is_the_nearest_sensible_one(fleet: FleetReader) -> None:
    for page, per_page, count in ((0, 2, 2), (1, 0, 1), (1, 10**9, 4)):
        found = await fleet.machines(MachineQuery(page=page, per_page=per_page))
        assert len(found.machines) == count


async def test_a_machine_is_told_by_its_application_too(site: Site) -> None:
    other = replace(ASK, app_id="other", time=NOW + 1)
    await site.write(ASK, other)
    newest = await site.reader.machine(ASK.machineid)
    named = await site.reader.machine(ASK.machineid, ASK.app_id)
    assert newest is not None
    assert named is not None
    assert (newest.machine.app_id, named.machine.app_id) == ("other", ASK.app_id)
    assert await site.reader.machine(ASK.machineid, "none") is None


async def test_an_unknown_machine_is_none(site: Site) -> None:
    for machineid in ("", "unknown", "\0", "x" * 5000, "\ud800"):
        assert await site.reader.machine(machineid) is None


async def test_counts(fleet: FleetReader) -> None:
    assert await fleet.count_by("state") == {"complete": 3, "on hold": 1}
    assert await fleet.count_by("track") == {"stable": 3, "beta": 1}
    assert list(await fleet.count_by("version", seen_since=NOW - 2)) == ["3815.2.10", "3815.2.9"]


async def test_the_census_tells_versions_and_states_over_time(site: Site) -> None:
    hour = int(NOW // HOUR * HOUR)
    await site.write(ASK, machine(1))
    await store.upkeep(site.database, NOW, retention=90 * DAY)
    later = replace(ASK, version="3815.2.1", reason="held", time=NOW + HOUR)
    await site.write(later)
    await store.upkeep(site.database, NOW + HOUR, retention=90 * DAY)
    await site.write(replace(machine(2), time=NOW + HOUR + 9))
    await store.upkeep(site.database, NOW + HOUR + 10, retention=90 * DAY)
    first, second = (
        Census(hour, {"3815.2.0": 2}),
        Census(hour + HOUR, {"3815.2.0": 2, "3815.2.1": 1}),
    )
    assert await site.reader.census("version", 0) == (first, second)
    assert await site.reader.census("version", NOW) == (second,)
    assert await site.reader.census("version", 0, step=DAY) == (second,)
    assert await site.reader.census("state", NOW) == (
        Census(hour + HOUR, {"complete": 2, "on hold": 1}),
    )


async def test_the_census_leaves_out_machines_that_are_silent(site: Site) -> None:
    await site.write(ASK)
    await store.upkeep(site.database, NOW + 2 * DAY, retention=90 * DAY)
    assert await site.reader.census("version", 0) == ()


async def test_recent_errors_are_failures_and_deferrals_the_newest_first(site: Site) -> None:
    await site.write(OFFERED, event(13, 1), event(3, 0, 9), event(3, 2, previousversion="1.0"))
    await site.write(event(3, 9, 40, asked=replace(machine(1), time=NOW + 1)))
    deferred, failed = await site.reader.recent_errors()
    assert (deferred.event.errorcode, deferred.machine.machineid) == (40, machine(1).machineid)
    assert (failed.event.errorcode, failed.machine.alias) == (9, "web-1")
    assert await site.reader.recent_errors(limit=1) == (deferred,)


async def test_what_an_attacker_sends_comes_back_as_text(site: Site) -> None:
    evil = "<script>alert(1)</script>'; DROP TABLE machines; --"
    names = ("alias", "board", "track", "oem", "oemversion", "version", "alephversion", "machineid")
    sent: dict[str, Any] = dict.fromkeys(names, evil)
    await site.write(replace(ASK, **sent), HELD)
    found = (await site.history(evil)).machine
    assert {getattr(found, name) for name in names} == {evil}
    assert (await site.reader.machines(MachineQuery(search="DROP table"))).total == 1


async def test_a_database_without_tables_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(FleetUnavailable, match="machines"):
        await FleetReader(database).machines(MachineQuery())
    await database.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://omaha@127.0.0.1:1/fleet")
    with pytest.raises(FleetUnavailable, match="fails"):
        await FleetReader(database).count_by("state")
    await database.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_an_answer_has_a_deadline(url: str) -> None:
    """Readers of SQLite wait for nobody."""
    database, other = Database(url), Database(url)
    await database.migrate()
    async with other.engine.begin() as connection:
        await connection.execute(text("LOCK TABLE machines IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(FleetUnavailable, match=r"within 0\.2 seconds"):
            await FleetReader(database, timeout=0.2).count_by("state")
    assert await FleetReader(database).count_by("state") == {}
    await database.close()
    await other.close()


async def test_a_reader_does_not_wait_for_the_writer(site: Site) -> None:
    await site.write(ASK)
    async with site.database.engine.begin() as connection:
        await connection.execute(text("UPDATE machines SET alias = 'not yet'"))
        assert (await site.history()).machine.alias == "web-1"


async def test_questions_may_be_asked_side_by_side(fleet: FleetReader) -> None:
    pages = await asyncio.gather(*(fleet.machines(MachineQuery()) for _ in range(20)))
    assert {page.total for page in pages} == {4}


async def test_what_came_over_the_line_is_told_apart_from_what_was_served(site: Site) -> None:
    fetched = replace(GOT, cache_status=FETCHED, bytes=70)
    await site.write(GOT, fetched, fetched, replace(fetched, time=NOW - DAY))
    assert [row.bytes for row in await site.reader.served()] == [100]
    today = int(NOW // DAY) * DAY
    assert await site.reader.fetched() == {today - DAY: 70, today: 140}
    assert await site.reader.fetched(today) == {today: 140}
