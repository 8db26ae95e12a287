"""Relaying checks: policy is obeyed at once, an outage changes nothing, and nobody waits for it in vain."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.aio.tasks import DEFECT
from omaha_mirror.omaha import (
    AppRequest,
    AppResponse,
    Response,
    UpdateCheck,
    UpdateStatus,
    parse_request,
    serialise_response,
)
from omaha_mirror.policy import relay_store
from omaha_mirror.policy.breaker import IN_A_ROW, REST
from omaha_mirror.policy.concurrency import AT_ONCE, SPARE
from omaha_mirror.policy.relay import CheckRelay, RelayedAnswer
from omaha_mirror.policy.relay_store import LIMIT, LastOffers
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.omaha_server import OmahaServer
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.clock import StoppedClock
from tests.support.logs import Logs
from tests.support.nebraska import PATH, Nebraska
from tests.support.upstream import Drop, Hangup, Redirect, Status, Upstream

MESSAGES = Path(__file__).parent.parent / "data" / "omaha"
VERSION = "3815.2.1"
MACHINE = "0123456789abcdef0123456789abcdef"
ASKED = parse_request((MESSAGES / "request_check_first.xml").read_bytes())
PATIENCE = 20.0


def machine(name: object = MACHINE, **attributes: Any) -> AppRequest:
    """One that runs the version before."""
    return replace(ASKED.apps[0], machineid=str(name), **attributes)


@dataclass(slots=True)
class Site:
    """A relay, and a Nebraska with one group behind it."""

    upstream: Upstream
    nebraska: Nebraska
    fetcher: HttpFetcher
    path: Path
    clock: StoppedClock
    failures: list[Reason] = field(default_factory=list)

    @asynccontextmanager
    async def relay(self, *, machines: int = 1000) -> AsyncIterator[CheckRelay]:
        ask = OmahaServer(self.fetcher, self.nebraska.url).ask
        allowed = AllowList(self.upstream.origin).check
        failed = self.failures.append
        relay = CheckRelay(
            ask, LastOffers(self.path, machines), allowed, failed=failed, clock=self.clock
        )
        await relay.offers.start()
        try:
            async with asyncio.timeout(PATIENCE):
                yield relay
        finally:
            await relay.offers.close()

    async def line_down(self) -> None:
        await self.upstream.refuse()
        self.upstream.cut_all()

    def posts(self) -> int:
        return len(self.upstream.requests(PATH))


@pytest.fixture
async def site(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Site]:
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {"update.gz": b"payload", "oem-azure.gz": b"azure"})
    nebraska.group("stable", VERSION)
    fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))
    yield Site(upstream, nebraska, fetcher, tmp_path / "relay.json", StoppedClock())
    await fetcher.close()


async def check(
    relay: CheckRelay, app: AppRequest | None = None, wait: float = PATIENCE, address: str = ""
) -> RelayedAnswer:
    app = app or machine()
    return await relay.check(app, replace(ASKED, apps=(app,)), wait, address)


def reachable(relay: CheckRelay) -> bool:
    """Whether machines in general are asked for."""
    return relay._breaker._all.closed


async def asked_in_vain(site: Site, relay: CheckRelay, name: object) -> None:
    """One check that upstream has, and whose connection breaks before its answer; `PATH` is held."""
    posts = site.posts()
    asking = asyncio.create_task(check(relay, machine(name)))
    await site.upstream.until(lambda: site.posts() == posts + 1)
    site.upstream.cut_all()
    assert not (await asking).delivered


async def broken_off(site: Site, relay: CheckRelay) -> None:
    """So many checks in vain that nobody asks any more."""
    for n in range(IN_A_ROW):
        await asked_in_vain(site, relay, f"vain {n}")
    assert not reachable(relay)


async def test_upstream_sees_the_machine_itself_and_one_application(site: Site) -> None:
    first = replace(ASKED.apps[0], extra=(("colour", "blue"),))
    second = replace(first, appid="{other}")
    request = replace(ASKED, apps=(first, second), extra=(("shade", "dark"),))
    async with site.relay() as relay:
        await relay.check(first, request)
        await relay.check(second, request)
    assert site.nebraska.requests == [
        replace(request, apps=(first,)),
        replace(request, apps=(second,)),
    ]
    assert first.events
    assert first.ping is not None


async def test_an_offer_is_passed_on_whole(site: Site) -> None:
    async with site.relay() as relay:
        answer = await check(relay)
    assert answer.release is not None
    assert answer.release_id == answer.release.id
    assert answer.version == VERSION
    assert (answer.reason, answer.delivered) == (Reason.OFFERED, True)
    assert [file.name for file in answer.release.files] == ["update.gz", "oem-azure.gz"]
    [granted] = site.nebraska.open_grants()
    assert granted.machineid == MACHINE


async def outage(site: Site, relay: CheckRelay, app: AppRequest | None = None) -> RelayedAnswer:
    """What a machine is told while nothing can be asked."""
    await site.line_down()
    return await check(relay, app)


POLICIES: dict[str, tuple[Callable[[UpdateCheck], AppResponse], Reason]] = {
    "noupdate": (
        lambda _: AppResponse(status="ok", update_check=UpdateCheck(status=UpdateStatus.NO_UPDATE)),
        Reason.NO_UPDATE_UPSTREAM,
    ),
    "updates disabled": (
        lambda check: AppResponse(status="error-updatesDisabled", update_check=check),
        Reason.WITHDRAWN,
    ),
    "an error nobody knows": (
        lambda check: AppResponse(status="error-ofTomorrow", update_check=check),
        Reason.WITHDRAWN,
    ),
    "a limit": (
        lambda check: AppResponse(
            status="error-maxConcurrentUpdatesLimitReached", update_check=check
        ),
        Reason.BUSY,
    ),
}


@pytest.mark.parametrize("name", POLICIES)
async def test_policy_is_obeyed_and_what_was_told_before_is_forgotten(
    site: Site, name: str
) -> None:
    make, reason = POLICIES[name]
    answer = make(UpdateCheck(status=UpdateStatus.INTERNAL))
    answer = replace(answer, appid=machine().appid)
    async with site.relay() as relay:
        assert (await check(relay)).release_id is not None
        site.upstream.answer(PATH, lambda _: serialise_response(Response(apps=(answer,))))
        relayed = await check(relay)
        assert (relayed.release_id, relayed.release, relayed.reason) == (None, None, reason)
        assert relayed.version is None
        assert relayed.delivered
        assert answer.status in relayed.detail
        relayed = await outage(site, relay)
        assert (relayed.release_id, relayed.reason) == (None, Reason.UNREACHABLE)


OUTAGES: dict[str, Callable[[Upstream], object]] = {
    "silence": lambda up: up.hold(PATH),
    "truncated": lambda up: up.fault(PATH, Drop(at=50)),
    "error": lambda up: up.fault(PATH, Status(500)),
    "hang-up": lambda up: up.fault(PATH, Hangup()),
    "no connection": Upstream.refuse,
}
REFUSALS: dict[str, Callable[[Upstream], object]] = {
    "html": lambda up: up.answer(PATH, lambda _: b"<html>sign in</html>"),
    "not found": lambda up: up.fault(PATH, Status(404)),
    "sign-in": lambda up: up.fault(PATH, Redirect("/sign-in")),
}


@pytest.mark.parametrize("name", [*OUTAGES, *REFUSALS])
async def test_without_an_answer_a_machine_is_told_what_it_was_last_told(
    site: Site, name: str, logs: Logs
) -> None:
    reason = Reason.UNREACHABLE if name in OUTAGES else Reason.REFUSED
    async with site.relay() as relay:
        offer = await check(relay)
        if isinstance(broken := (OUTAGES | REFUSALS)[name](site.upstream), Awaitable):
            await broken
        answer = await check(relay, wait=0.2)
        assert (answer.release_id, answer.version) == (offer.release_id, VERSION)
        assert (answer.reason, answer.release, answer.delivered) == (Reason.OFFERED, None, False)
        assert answer.detail
        other = await check(relay, machine("other"), wait=0.2)
        assert (other.release_id, other.reason, other.delivered) == (None, reason, False)
        assert other.detail
        assert site.failures == [reason, reason]
        assert reachable(relay) is (name != "no connection")
    assert len(logs) == 1
    async with site.relay() as relay:
        assert (await check(relay, wait=0.2)).release_id == offer.release_id


async def test_a_defect_leaves_its_traceback_and_a_machine_is_told_what_it_was_last_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    async with site.relay() as relay:
        offer = await check(relay)
        monkeypatch.setattr(
            "omaha_mirror.upstream.omaha_server.parse_response", lambda text: {}[text]
        )
        answer = await check(relay)
        assert (answer.release_id, answer.detail) == (offer.release_id, DEFECT)
    assert "KeyError" in logs[0]["exception"]


async def test_an_answer_that_no_machine_could_use_is_refused_once_said_and_delivered(
    site: Site, logs: Logs
) -> None:
    async with site.relay() as relay:
        offer = await check(relay)
        released = site.nebraska.releases["amd64-usr", VERSION]
        released.codebase = "http://elsewhere.example/"
        for _ in range(3):
            answer = await check(relay)
            assert (answer.release_id, answer.delivered) == (offer.release_id, True)
        other = await check(relay, machine("other"))
        assert (other.release_id, other.reason) == (None, Reason.REFUSED)
        assert "elsewhere.example" in other.detail
        assert site.failures == [Reason.REFUSED] * 4
        assert reachable(relay)
    assert len(logs) == 1
    assert "elsewhere.example" in str(logs)


async def test_after_an_outage_nobody_asks_for_a_while_and_then_one_at_a_time(
    site: Site, logs: Logs
) -> None:
    async with site.relay() as relay:
        offer = await check(relay)
        gate = site.upstream.hold(PATH)
        await broken_off(site, relay)
        posts = site.posts()
        site.clock.now += REST - 0.1
        for answer in await asyncio.gather(*(check(relay) for _ in range(100))):
            assert answer.release_id == offer.release_id
            assert not answer.delivered
            assert "is not asked at the moment: the connection was lost" in answer.detail
        assert site.posts() == posts
        site.clock.now += 0.1
        probe = asyncio.create_task(check(relay))
        await site.upstream.until(lambda: site.posts() == posts + 1)
        site.clock.now += 10 * REST
        assert not (await check(relay, machine("other"))).delivered
        assert site.posts() == posts + 1
        gate.open()
        assert (await probe).delivered
        assert reachable(relay)
        assert (await check(relay, machine("other"))).delivered
    said = [line["event"].partition(";")[0] for line in logs]
    assert said == [
        "upstream did not answer the check of a machine",
        "upstream does not answer",
        "upstream answers again",
    ]


async def test_a_probe_in_vain_begins_another_rest(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.hold(PATH)
        await broken_off(site, relay)
        for asked in (1, 2, 3):
            site.clock.now += REST
            await asked_in_vain(site, relay, "one")
            assert not (await check(relay, machine("other"))).delivered
            assert site.posts() == IN_A_ROW + asked


async def test_a_probe_that_leaves_makes_room_for_the_next(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        await broken_off(site, relay)
        site.clock.now += REST
        probe = asyncio.create_task(check(relay))
        await site.upstream.until(lambda: site.posts() == IN_A_ROW + 1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        gate.open()
        assert (await check(relay)).delivered


@pytest.mark.parametrize("fault", [Status(500, times=1), Hangup(times=1)])
async def test_a_machine_that_upstream_fails_rests_alone(site: Site, fault: Any) -> None:
    async with site.relay() as relay:
        site.upstream.fault(PATH, fault)
        assert not (await check(relay)).delivered
        assert (await check(relay, machine("other"))).delivered
        assert not (await check(relay)).delivered
        assert site.posts() == 2
        assert (await check(relay, address="10.0.0.9")).delivered
        site.clock.now += REST
        assert (await check(relay)).delivered


async def test_failures_far_apart_or_with_an_answer_between_them_hold_nobody_up(site: Site) -> None:
    async with site.relay() as relay:
        for n in range(2 * IN_A_ROW):
            site.upstream.fault(PATH, Status(500, times=1))
            assert not (await check(relay, machine(f"a{n}"))).delivered
            assert (await check(relay, machine("good"))).delivered
        site.upstream.fault(PATH, Status(500))
        for n in range(2 * IN_A_ROW):
            assert not (await check(relay, machine(f"b{n}"))).delivered
            site.clock.now += 31.0
        assert reachable(relay)


async def test_who_fails_behind_one_address_rests_there(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.fault(PATH, Status(500, times=IN_A_ROW))
        for n in range(2 * IN_A_ROW):
            assert not (await check(relay, machine(n), address="10.6.6.6")).delivered
        assert site.posts() == IN_A_ROW
        assert (await check(relay, address="10.0.0.1")).delivered
        assert reachable(relay)
        site.clock.now += REST
        assert (await check(relay, machine(1), address="10.6.6.6")).delivered


async def test_machines_at_several_addresses_that_fail_in_a_row_hold_all_back(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.fault(PATH, Status(500, times=IN_A_ROW))
        for n in range(IN_A_ROW):
            await check(relay, machine(n), address=f"10.0.0.{n}")
        assert not (await check(relay, address="10.0.0.9")).delivered
        assert not reachable(relay)


async def test_where_connecting_fails_one_machine_is_enough_and_a_status_is_an_answer(
    site: Site,
) -> None:
    async with site.relay() as relay:
        await site.line_down()
        await check(relay, address="10.0.0.1")
        assert not reachable(relay)
        await site.upstream.listen()
        assert not (await check(relay, machine("other"), address="10.0.0.2")).delivered
        assert site.posts() == 0
        site.clock.now += REST
        site.upstream.fault(PATH, Status(500, times=1))
        assert not (await check(relay, address="10.0.0.1")).delivered
        assert (await check(relay, machine("other"), address="10.0.0.2")).delivered


async def test_a_request_with_many_applications_takes_one_place(site: Site) -> None:
    apps = tuple(machine(n) for n in range(AT_ONCE))
    request = replace(ASKED, apps=apps)
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        checks = [asyncio.create_task(relay.check(app, request)) for app in apps]
        await site.upstream.until(lambda: site.posts() == 1)
        other = asyncio.create_task(check(relay))
        await site.upstream.until(lambda: site.posts() == 2)
        gate.open()
        assert all(answer.delivered for answer in await asyncio.gather(*checks, other))
    assert {len(request.apps) for request in site.nebraska.requests} == {1}


async def test_a_machine_asks_one_thing_at_a_time_and_equal_ones_once(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        tracks = ("stable", "beta", "stable", "beta")
        checks = [asyncio.create_task(check(relay, machine(track=track))) for track in tracks]
        await site.upstream.until(lambda: site.posts() == 1)
        checks[2].cancel()
        await asyncio.wait([checks[2]])
        gate.open()
        answers = await asyncio.gather(checks[0], checks[1], checks[3])
        assert all(each.delivered for each in answers)
        assert site.upstream.peak == 1
        assert site.posts() == 2


async def test_who_asks_the_same_as_one_that_is_just_leaving_asks_anew(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        leaving = asyncio.create_task(check(relay))
        await site.upstream.until(lambda: site.posts() == 1)
        leaving.cancel()
        coming = asyncio.create_task(check(relay))
        await asyncio.wait([leaving])
        gate.open()
        assert (await coming).delivered
        assert site.posts() == 2


async def test_an_address_that_takes_all_places_leaves_some_to_others(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        greedy = [
            asyncio.create_task(check(relay, machine(n), address="10.6.6.6"))
            for n in range(2 * AT_ONCE)
        ]
        await site.upstream.until(lambda: site.posts() == AT_ONCE)
        others = [
            asyncio.create_task(check(relay, machine(-n), address=f"10.0.0.{n}"))
            for n in range(1, SPARE + 1)
        ]
        await site.upstream.until(lambda: site.posts() == AT_ONCE + SPARE)
        gate.open()
        answers = await asyncio.gather(*greedy, *others)
        assert all(each.delivered for each in answers)


async def test_a_server_that_says_no_to_one_machine_is_asked_on_for_others(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.fault(PATH, Status(400, times=1))
        assert not (await check(relay)).delivered
        assert (await check(relay, machine("other"))).delivered


async def test_upstream_is_asked_so_many_questions_at_once_and_no_more(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        checks = [asyncio.create_task(check(relay, machine(n))) for n in range(3 * AT_ONCE)]
        await site.upstream.until(lambda: site.posts() == AT_ONCE)
        gate.open()
        assert all(answer.delivered for answer in await asyncio.gather(*checks))
        assert site.upstream.peak == AT_ONCE
    assert len(site.nebraska.instances) == 3 * AT_ONCE


@pytest.mark.long
async def test_a_dead_line_costs_a_fleet_one_wait_and_not_one_each(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.hold(PATH)
        checks = [check(relay, machine(n), wait=4.0) for n in range(2000)]
        assert not any(answer.delivered for answer in await asyncio.gather(*checks))
        # The first that fail hand their places on, until so many failed in a row that nobody asks.
        assert AT_ONCE <= site.posts() < AT_ONCE + IN_A_ROW
        assert site.failures == [Reason.UNREACHABLE] * 2000


async def test_a_check_that_got_no_turn_says_nothing_of_upstream(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        checks = [asyncio.create_task(check(relay, machine(n))) for n in range(AT_ONCE)]
        await site.upstream.until(lambda: site.posts() == AT_ONCE)
        assert not (await check(relay, wait=0.4)).delivered
        assert reachable(relay)
        gate.open()
        assert all(answer.delivered for answer in await asyncio.gather(*checks))
        assert (await check(relay)).delivered


async def test_whoever_waits_for_a_turn_is_told_at_once_when_the_line_breaks(site: Site) -> None:
    async with site.relay() as relay:
        site.upstream.hold(PATH)
        asking = [asyncio.create_task(check(relay, machine(n))) for n in range(AT_ONCE)]
        await site.upstream.until(lambda: site.posts() == AT_ONCE)
        waiting = [asyncio.create_task(check(relay, machine(-n))) for n in range(1, 100)]
        await site.line_down()
        answers = await asyncio.gather(*asking, *waiting)
        assert not any(each.delivered for each in answers)
        assert site.posts() == AT_ONCE


async def test_a_machine_that_leaves_takes_its_question_along(site: Site) -> None:
    async with site.relay() as relay:
        gate = site.upstream.hold(PATH)
        checks = [asyncio.create_task(check(relay, machine(n))) for n in range(AT_ONCE)]
        await site.upstream.until(lambda: site.posts() == AT_ONCE)
        for task in checks:
            task.cancel()
        await asyncio.wait(checks)
        await site.upstream.until(lambda: all(r.done for r in site.upstream.log))
        gate.open()
        assert (await check(relay)).delivered
        assert reachable(relay)


async def test_only_the_same_machine_on_the_same_track_is_remembered(site: Site) -> None:
    async with site.relay() as relay:
        await check(relay)
        await site.line_down()
        for other in (
            machine("other"),
            machine(track="beta"),
            machine(board="arm64-usr"),
            machine(appid="{other}"),
        ):
            assert (await check(relay, other)).release_id is None
        assert (await check(relay, machine(appid=ASKED.apps[0].app_id))).version == VERSION


async def test_a_machine_without_an_id_is_like_no_other(site: Site) -> None:
    async with site.relay() as relay:
        assert (await check(relay, machine(""))).version == VERSION
        assert len(relay.offers) == 0
        assert (await outage(site, relay, machine(""))).release_id is None


async def test_the_machine_that_asked_longest_ago_is_forgotten_first(site: Site) -> None:
    async with site.relay(machines=2) as relay:
        for name in "abac":
            await check(relay, machine(name))
        await site.line_down()
        known = [n for n in "abc" if (await check(relay, machine(n))).release_id]
        assert known == ["a", "c"]
        assert len(relay.offers) == 2
        await check(relay, machine("a"))
    async with site.relay(machines=1) as relay:
        known = [n for n in "abc" if (await check(relay, machine(n))).release_id]
        assert known == ["a"]


async def test_the_file_names_no_machine(site: Site) -> None:
    async with site.relay() as relay:
        await check(relay)
    text = site.path.read_text()
    assert VERSION in text
    assert MACHINE not in text


async def test_what_was_told_is_written_without_a_close(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()

    def watched(path: Path, offers: dict[str, str]) -> None:
        store(path, offers)
        written.set()

    store = relay_store._store
    monkeypatch.setattr(relay_store, "_store", watched)
    monkeypatch.setattr(relay_store, "SAVE", 0.0)
    async with site.relay() as relay:
        offer = await check(relay)
        assert await asyncio.to_thread(written.wait, PATIENCE)
        assert list(json.loads(site.path.read_text())["told"].values()) == [offer.release_id]
        written.clear()
        await check(relay)
        assert not relay.offers._changed.is_set()


def shaped(offers: object, format_: int = 1) -> bytes:
    return json.dumps({"format": format_, "told": offers}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        shaped([]),
        shaped({"a": 5}),
        shaped({"a": "release"}),
        shaped({"a": "1.2.3-x"}, format_=2),
        b" " * (LIMIT + 1),
    ],
    ids=lambda content: repr(content[:30]),
)
async def test_a_file_that_cannot_be_used_is_said_and_hinders_nothing(
    site: Site, content: bytes, logs: Logs
) -> None:
    site.path.write_bytes(content)
    async with site.relay() as relay:
        assert str(site.path) in str(logs)
        assert len(relay.offers) == 0
        offer = await check(relay)
    async with site.relay() as relay:
        assert (await outage(site, relay)).release_id == offer.release_id


async def test_a_disk_that_refuses_costs_no_answer(site: Site, logs: Logs) -> None:
    os.symlink(os.devnull, site.path.parent / "file")
    site.path = site.path.parent / "file" / "relay.json"
    async with site.relay() as relay:
        assert (await check(relay)).delivered
    assert "a restart would lose them" in str(logs)


async def test_a_relay_that_never_started_leaves_the_file_alone(site: Site) -> None:
    site.path.write_bytes(shaped({"a": "1.2.3-x"}))
    await LastOffers(site.path).close()
    assert site.path.read_bytes() == shaped({"a": "1.2.3-x"})
