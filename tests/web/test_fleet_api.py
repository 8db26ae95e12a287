"""What the API tells of machines, and of the mirror."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from omaha_mirror.fleet import CheckIn, Served
from omaha_mirror.fleet.model import MAX_TEXT
from omaha_mirror.omaha import parse_request
from omaha_mirror.web.admin.page.status import DAY, savings
from tests.fleet.scene import ASK, HELD, NOW, OFFERED, event, machine
from tests.support.mirror import PAYLOAD, VERSION, Mirror, omaha
from tests.web.asking import Api, api_of
from tests.web.conftest import BODY

FLEET = [
    replace(machine(1), version="3815.2.10", address="192.0.2.1", time=NOW + 1),
    replace(machine(2), version="3815.2.9", reason="held", time=NOW + 2),
    replace(machine(3), track="beta", board="arm64-usr", time=NOW + 3),
    replace(machine(0xAB), alias="ab00", time=NOW + 4),
    replace(machine(0xAB << 120), alias="other", time=NOW + 5),
]


@pytest.fixture
async def api(mirror: Mirror) -> AsyncIterator[Api]:
    async with api_of(mirror) as api:
        yield api


@pytest.fixture
async def fleet(api: Api) -> Api:
    """Five machines."""
    api.record(*FLEET)
    await api.when("machines", lambda reply: reply["total"] == len(FLEET))
    return api


PAGES = {
    "": ["other", "ab00", "node-3", "node-2", "node-1"],
    "order=asc&per_page=2": ["node-1", "node-2"],
    "order=asc&per_page=2&page=3": ["other"],
    "page=1000000": [],
    "search=NODE-&sort=alias&order=asc": ["node-1", "node-2", "node-3"],
    "search=192.0.2.1": ["node-1"],
    "search=%25": [],
    "state=on%20hold": ["node-2"],
    "track=beta&board=arm64-usr": ["node-3"],
    "version=3815.2.9": ["node-2"],
    "search=node&sort=version": ["node-1", "node-2", "node-3"],
}


async def test_machines_are_searched_filtered_sorted_and_paged(fleet: Api) -> None:
    reply = {query: (await fleet.get(f"machines?{query}"))["machines"] for query in PAGES}
    assert {query: [m["alias"] for m in found] for query, found in reply.items()} == PAGES
    page = await fleet.get("machines?per_page=2&page=2")
    assert (page["total"], page["page"], page["per_page"]) == (len(FLEET), 2, 2)


BAD = {
    "machines?per_page=1001": "per_page",
    "machines?per_page=0": "per_page",
    "machines?page=0": "page",
    "machines?page=1000001": "page",
    "machines?page=two": "page",
    "machines?sort=secret": "sort",
    "machines?order=up": "order",
    "machines?state=broken": "state",
    "machines?serach=web": "no serach",
    "machines?page=1&page=2": "once",
    f"machines?search={'x' * 201}": "search",
    "machines?%1b[31m=1": "\ufffd[31m",
    "machines/web?app=1": "no app",
    "events?limit=1001": "limit",
    "decisions?sort=alias": "no sort",
}


@pytest.mark.parametrize("path", BAD)
async def test_a_parameter_that_is_wrong_is_named(api: Api, path: str) -> None:
    assert BAD[path] in await api.refused("GET", path, 400)


async def test_a_machine_is_meant_by_id_alias_or_the_beginning_of_its_id(fleet: Api) -> None:
    whole = f"{2:032x}"
    for name in (whole, f"%7B{whole}%7D", "node-2"):
        assert (await fleet.get(f"machines/{name}"))["machine"]["machineid"] == whole
    # An alias goes before the beginning of another's id.
    assert (await fleet.get("machines/ab00"))["machine"]["machineid"] == f"{0xAB:032x}"
    for name in ("ab", "AB0"):
        assert (await fleet.get(f"machines/{name}"))["machine"]["alias"] == "other"


async def test_a_name_that_means_no_machine_or_several_is_refused_with_words(fleet: Api) -> None:
    words = await fleet.refused("GET", "machines/0000", 409)
    assert words.startswith("4 machines")
    assert f"{1:032x}" in words
    assert "nobody" in await fleet.refused("GET", "machines/nobody", 404)
    assert f"{0xAB:032x}" in await fleet.refused("GET", f"machines/{0xAB:032x}?app_id=another", 404)


async def test_a_machine_that_is_held_back_is_told_so_in_sentences(api: Api) -> None:
    await api.post("tracks/stable/hold")
    answer = await api.mirror.check("request_check_first")
    assert b'status="noupdate"' in answer.body
    [app] = parse_request(omaha("request_check_first")).apps
    reply = await api.machine(app.machineid)
    assert [d["reason"] for d in reply["decisions"]] == ["held"]
    sentences = " ".join(reply["explanation"])
    assert "The answer was `noupdate`: the track is held." in sentences
    assert "Track stable is held since" in sentences


HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "\x1b]0;owned\x07\r\n\0",
    "\u202egnp.exe\u2066",
    "]]>&amp;{{7*7}}${7*7}",
    "x" * 5000,
)


def hostile(number: int, text: str) -> CheckIn:
    return replace(
        machine(number),
        address=text,
        alias=text,
        board=text,
        track=text,
        oem=text,
        oemversion=text,
        version=text,
        alephversion=text,
    )


async def test_what_a_machine_sends_is_inert_in_json(api: Api) -> None:
    names = ("alias", "board", "track", "oem", "oemversion", "version", "alephversion", "address")
    items = [hostile(number, text) for number, text in enumerate(HOSTILE)]
    failed = [
        replace(event(3, 0, 9, text, item), version=text)
        for item, text in zip(items, HOSTILE, strict=True)
    ]
    api.record(*items, *failed)
    await api.when("machines", lambda reply: reply["total"] == len(items))
    await api.when("events", lambda reply: len(reply["events"]) == len(items))
    paths = ["machines", "events", "decisions", *(f"machines/{i.machineid}" for i in items)]
    for path in paths:
        answer = await api.ask("GET", f"/api/v1/{path}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.body.isascii()
        for text in _texts(json.loads(answer.body)):
            assert text.isprintable(), (path, text)
    for item in (await api.get("machines"))["machines"]:
        assert all(len(item[name]) <= MAX_TEXT for name in names)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in values for text in _texts(item)]


async def test_errors_come_with_cause_and_remedy_and_decisions_with_words(api: Api) -> None:
    api.record(HELD, event(3, 0, 9), replace(OFFERED, machineid="ab" * 16))
    [failed] = (await api.when("events", lambda reply: bool(reply["events"])))["events"]
    assert failed["machine"]["machineid"] == ASK.machineid
    assert failed["event"]["errorcode"] == 9
    assert "downloaded" in failed["event"]["cause"]
    assert failed["event"]["remedy"]
    reply = {d["machineid"]: d for d in (await api.get("decisions"))["decisions"]}
    assert reply[ASK.machineid]["words"] == "the track is held"
    assert reply["ab" * 16]["offered"] == OFFERED.offered
    assert (await api.get("decisions?track=none"))["decisions"] == []


async def test_without_a_database_the_fleet_is_unavailable_and_the_status_says_why(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = api.mirror.service.fleet_feed._database.engine

    def broken(*_: object) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(type(engine), "connect", broken)
    for path in ("machines", "machines/web", "events", "decisions"):
        assert "no such disk" in await api.refused("GET", path, 503)
    status = await api.get("status")
    assert "no such disk" in status["trouble"]
    assert (status["machines"], status["savings"]) == (None, None)
    assert status["ready"] is True


async def test_the_status_tells_what_was_served_fetched_and_saved(api: Api) -> None:
    path = await api.mirror.payload()
    for _ in range(3):
        assert (await api.mirror.get(path)).body == BODY
    await api.mirror.until(lambda: bool(api.mirror.ended()))
    got = {"served": 3 * len(BODY), "fetched": len(BODY)}
    status = await api.when("status", lambda reply: _has(reply["savings"], got))
    today = status["savings"][0]
    assert (today["days"], today["saved"]) == (1, 2 * len(BODY))
    assert today["ratio"] == pytest.approx(2 / 3)
    assert [s["days"] for s in status["savings"]] == [1, 7, 30]
    assert (status["served"], status["fetched"]) == (3 * len(BODY), len(BODY))
    assert (status["state"], status["ready"]) == ("ok", True)
    assert status["verdict"]


def _has(savings: Any, today: dict[str, int]) -> bool:
    return savings is not None and today.items() <= savings[0].items()


async def test_releases_tell_which_of_their_packages_are_here(api: Api) -> None:
    path = await api.mirror.payload()
    [release] = (await api.get("releases"))["releases"]
    [package] = release["packages"]
    assert (release["version"], release["board"]) == (VERSION, "amd64-usr")
    assert (package["name"], package["size"], package["here"]) == (PAYLOAD, len(BODY), False)
    assert (await api.mirror.get(path)).body == BODY
    await api.mirror.until(lambda: bool(api.mirror.ended()))
    [package] = (await api.get("releases"))["releases"][0]["packages"]
    assert package["here"] is True
    [blob] = (await api.get("cache"))["blobs"]
    assert blob["key"] == package["key"]


def test_savings_count_days_that_begin_at_midnight_utc() -> None:
    today = int(NOW // DAY) * DAY
    days = {today: 1, today - DAY: 10, today - 6 * DAY: 100, today - 7 * DAY: 1000}
    days |= {today - 29 * DAY: 10_000, today - 30 * DAY: 100_000}
    served = [Served(day, "hit", 1, 2 * count, 1.0) for day, count in days.items()]
    found = [(s.days, s.served, s.fetched, s.saved, s.ratio) for s in savings(served, days, NOW)]
    assert found == [
        (1, 2, 1, 1, 0.5),
        (7, 222, 111, 111, 0.5),
        (30, 22_222, 11_111, 11_111, 0.5),
    ]


def test_more_fetched_than_served_is_no_negative_saving() -> None:
    [today, *_] = savings([], {int(NOW // DAY) * DAY: 5}, NOW)
    assert (today.saved, today.ratio) == (0, None)
