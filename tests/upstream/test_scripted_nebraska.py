"""The scripted Nebraska must decide as the real one does: seen through its answers, machine by machine."""

import hashlib
from datetime import timedelta

import pytest

from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    AppRequest,
    AppResponse,
    EventRequest,
    Os,
    PingRequest,
    Request,
    Response,
    UpdateCheckRequest,
    parse_response,
    serialise_request,
)
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.nebraska import PATH, SYNCER, Group, Nebraska, State
from tests.support.threaded_upstream import ThreadedUpstream
from tests.support.upstream import Upstream

PAYLOAD = "flatcar_production_update.gz"
OTHER_APP = "11111111-2222-3333-4444-555555555555"
NO_UPDATE = ("ok", "noupdate", None)

Told = tuple[str, str, str | None]


class Talk:
    """Machines that talk to a Nebraska with three releases, the second of them a floor."""

    def __init__(self, upstream: Upstream) -> None:
        self.nebraska = Nebraska(upstream)
        for board in ("amd64-usr", "arm64-usr"):
            for version in ("1.0.0", "2.0.0", "3.0.0"):
                files = {PAYLOAD: f"{board} {version}".encode(), "oem-azure.gz": b"azure"}
                self.nebraska.publish(version, files, board=board)
        self.stable = self.nebraska.group("stable", "3.0.0", floors=["2.0.0"])
        self._fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))

    async def post(self, request: Request) -> Response:
        body = serialise_request(request)
        answer = await self._fetcher.post(self.nebraska.url, body, limit=1 << 20, deadline=10)
        return parse_response(answer)

    async def check(self, version: str = "1.0.0", machineid: str = "a", **app: str) -> Told:
        """App status, updatecheck status, and the version offered."""
        asking = checking(version, machineid, **app)
        return read((await self.post(Request(apps=(asking,)))).apps[0])

    async def report(
        self, eventtype: int, eventresult: int, previous: str | None = None, **app: str
    ) -> State | None:
        """Report an event; the state of machine `a` after it, None if it is unknown."""
        event = EventRequest(eventtype=eventtype, eventresult=eventresult, previousversion=previous)
        who = {"appid": FLATCAR_APP_ID, "track": "stable", "board": "amd64-usr", **app}
        reporting = AppRequest(version="1.0.0", machineid="a", events=(event,), **who)  # type: ignore[arg-type]
        [answer] = (await self.post(Request(apps=(reporting,)))).apps
        assert [event.status for event in answer.events] == ["ok"]
        known = self.nebraska.instances.get((reporting.app_id, "a"))
        return known.state if known else None

    def wait(self, **time: float) -> None:
        self.nebraska.now += timedelta(**time)


def checking(
    version: str,
    machineid: str,
    *,
    track: str = "stable",
    board: str = "amd64-usr",
    appid: str = "",
) -> AppRequest:
    return AppRequest(
        appid=f"{{{appid or FLATCAR_APP_ID}}}",
        version=version,
        track=track,
        board=board,
        machineid=machineid,
        update_check=UpdateCheckRequest(),
    )


def read(app: AppResponse) -> Told:
    check = app.update_check
    assert check is not None
    return app.status, check.status, check.manifest.version if check.manifest else None


def refused(status: str) -> Told:
    return f"error-{status}", "error-internal", None


@pytest.fixture
def talk(upstream: Upstream) -> Talk:
    return Talk(upstream)


# Grants


async def test_a_machine_goes_through_the_floor_and_is_told_noupdate_once_at_each_step(
    talk: Talk,
) -> None:
    versions = ("1.0.0", "2.0.0", "2.0.0", "3.0.0", "3.0.0")
    answers = [await talk.check(version) for version in versions]
    assert [version for _, _, version in answers] == ["2.0.0", None, "3.0.0", None, None]
    assert answers[1] == answers[3] == answers[4] == NO_UPDATE


async def test_a_grant_is_open_until_the_granted_version_asks(talk: Talk) -> None:
    await talk.check()
    [instance] = talk.nebraska.open_grants()
    assert (instance.state, instance.granted) == (State.GRANTED, "2.0.0")
    await talk.check("2.0.0")
    assert talk.nebraska.open_grants() == []
    assert (instance.state, instance.version) == (State.COMPLETE, "2.0.0")


async def test_an_open_grant_is_offered_again_whatever_the_policy(talk: Talk) -> None:
    await talk.check()
    talk.stable.updates_enabled = False
    assert await talk.check() == ("ok", "ok", "2.0.0")
    assert await talk.check(machineid="b") == refused("updatesDisabled")


async def test_an_open_grant_follows_the_channel(talk: Talk) -> None:
    talk.stable.floors.clear()
    talk.stable.version = "2.0.0"
    await talk.check()
    talk.stable.version = "3.0.0"
    assert await talk.check() == ("ok", "ok", "3.0.0")
    assert await talk.check("2.0.0") == NO_UPDATE


async def test_a_machine_at_or_above_the_channel_gets_noupdate(talk: Talk) -> None:
    assert await talk.check("3.0.0") == NO_UPDATE
    assert await talk.check("4.0.0", "b") == NO_UPDATE


async def test_an_open_grant_is_offered_the_channels_version_even_when_that_went_back(
    talk: Talk,
) -> None:
    await talk.check("1.5.0")
    talk.stable.version = "1.0.0"
    assert await talk.check("1.5.0") == ("ok", "ok", "1.0.0")


# Refusals


async def test_who_is_not_known_is_refused_and_the_rest_of_the_request_dropped(talk: Talk) -> None:
    unknown = refused("failedToRetrieveUpdatePackageInfo")
    assert await talk.check(appid=OTHER_APP) == unknown
    assert await talk.check(track="nightly") == unknown
    assert await talk.check(board="arm64-usr") == unknown
    apps = (checking("1.0.0", "a", track="nightly"), checking("1.0.0", "a"))
    assert [read(app) for app in (await talk.post(Request(apps=apps))).apps] == [unknown]


async def test_each_known_app_of_a_request_is_answered(talk: Talk) -> None:
    talk.nebraska.group("stable", "3.0.0", board="arm64-usr")
    talk.nebraska.group("stable", "2.0.0", app_id=OTHER_APP)
    apps = (
        checking("1.0.0", "a", board="arm64-usr"),
        checking("1.0.0", "a", appid=OTHER_APP),
    )
    answers = [read(app)[2] for app in (await talk.post(Request(apps=apps))).apps]
    assert answers == ["3.0.0", "2.0.0"]


@pytest.mark.parametrize("version", ["0.0.0.0", "3815.2", "", "v1.0.0"])
async def test_a_version_that_is_not_semver_cannot_register(talk: Talk, version: str) -> None:
    assert await talk.check(version) == refused("instanceRegistrationFailed")


async def test_a_channel_without_a_package_says_so(talk: Talk) -> None:
    talk.stable.version = None
    assert await talk.check() == refused("noPackageFound")


async def test_any_other_trouble_can_be_scripted(talk: Talk) -> None:
    talk.stable.trouble = "error-couldNotCheckUpdatesStats"
    assert await talk.check() == refused("couldNotCheckUpdatesStats")


async def test_what_is_not_xml_gets_an_empty_200(talk: Talk, upstream: Upstream) -> None:
    fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))
    assert await fetcher.post(talk.nebraska.url, b"<html", limit=100, deadline=10) == b""
    assert talk.nebraska.requests == []


# Policy


async def test_a_period_has_so_many_grants(talk: Talk) -> None:
    talk.stable.max_updates = 1
    await talk.check()
    assert await talk.check(machineid="b") == refused("maxUpdatesPerPeriodLimitReached")
    assert talk.nebraska.instances[FLATCAR_APP_ID, "b"].state == State.ON_HOLD
    talk.wait(minutes=16)
    await talk.check("2.0.0")
    assert await talk.check(machineid="b") == ("ok", "ok", "2.0.0")


async def test_the_next_step_of_one_machine_counts_as_well(talk: Talk) -> None:
    talk.stable.max_updates = 1
    await talk.check()
    await talk.check("2.0.0")
    assert await talk.check("2.0.0") == refused("maxUpdatesPerPeriodLimitReached")


async def test_so_many_grants_are_open_at_one_time_until_they_time_out(talk: Talk) -> None:
    talk.stable.max_updates = 1
    await talk.check()
    talk.wait(minutes=16)
    assert await talk.check(machineid="b") == refused("maxConcurrentUpdatesLimitReached")
    talk.wait(minutes=50)
    assert await talk.check(machineid="b") == ("ok", "ok", "2.0.0")


async def test_an_id_in_braces_takes_nobodys_turn(talk: Talk) -> None:
    talk.stable.max_updates = 1
    await talk.check(machineid="{01234567-89ab-cdef-0123-456789abcdef}")
    assert len(talk.nebraska.open_grants()) == 1
    assert await talk.check() == ("ok", "ok", "2.0.0")


async def test_in_safe_mode_one_machine_goes_first(talk: Talk) -> None:
    talk.stable.safe_mode = True
    await talk.check("2.0.0")
    assert await talk.check("2.0.0", "b") == refused("maxUpdatesPerPeriodLimitReached")
    await talk.check("3.0.0")
    assert await talk.check("2.0.0", "b") == ("ok", "ok", "3.0.0")
    assert await talk.check("2.0.0", "c") == ("ok", "ok", "3.0.0")


async def test_in_safe_mode_a_grant_that_times_out_disables_the_group(talk: Talk) -> None:
    talk.stable.safe_mode = True
    await talk.check()
    talk.wait(minutes=61)
    assert await talk.check(machineid="b") == refused("maxTimedOutUpdatesLimitReached")
    assert await talk.check(machineid="c") == refused("updatesDisabled")


@pytest.mark.parametrize(("wait", "open_"), [(0, True), (6, True), (7, False), (120, False)])
async def test_office_hours_are_those_of_work_days(talk: Talk, wait: float, open_: bool) -> None:
    talk.stable.office_hours = True
    talk.wait(hours=wait)
    assert await talk.check() == (("ok", "ok", "2.0.0") if open_ else refused("updatesDisabled"))


# Events


async def test_the_events_of_an_update_change_the_state(talk: Talk) -> None:
    await talk.check()
    answers = [await talk.report(*event) for event in ((13, 1), (14, 1), (3, 1), (800, 1))]
    assert answers == [State.DOWNLOADING, State.DOWNLOADED, State.DOWNLOADED, State.INSTALLED]
    assert await talk.check() == refused("updateInProgressOnInstance")
    assert await talk.report(3, 2, "1.0.0") == State.COMPLETE
    assert talk.nebraska.instances[FLATCAR_APP_ID, "a"].version == "2.0.0"


async def test_a_failure_ends_the_grant(talk: Talk) -> None:
    await talk.check()
    assert await talk.report(3, 0) == State.ERROR
    assert talk.nebraska.open_grants() == []


@pytest.mark.parametrize("previous", [None, "", "0.0.0.0"])
async def test_the_event_of_every_check_frees_a_machine_that_is_stuck(
    talk: Talk, previous: str | None
) -> None:
    await talk.check()
    await talk.report(14, 1)
    assert await talk.report(3, 2, previous) == State.UNDEFINED
    assert await talk.check() == ("ok", "ok", "2.0.0")


async def test_events_of_strangers_unknown_ones_and_those_without_a_grant_are_ignored(
    talk: Talk,
) -> None:
    assert await talk.report(13, 1) is None
    await talk.check("3.0.0")
    assert await talk.report(3, 0) == State.UNDEFINED
    await talk.check("1.0.0")
    assert await talk.report(3, 9) == State.GRANTED


async def test_another_app_is_complete_without_a_reboot(talk: Talk) -> None:
    talk.nebraska.group("stable", "3.0.0", app_id=OTHER_APP)
    await talk.check(appid=OTHER_APP)
    assert await talk.report(3, 1, appid=OTHER_APP) == State.COMPLETE


async def test_a_ping_registers_and_is_acknowledged(talk: Talk) -> None:
    app = AppRequest(
        appid=FLATCAR_APP_ID,
        version="1.0.0",
        track="stable",
        board="amd64-usr",
        machineid="a",
        ping=PingRequest(active=1),
    )
    [answer] = (await talk.post(Request(apps=(app,)))).apps
    assert (answer.ping is not None, answer.update_check) == (True, None)
    assert talk.nebraska.instances[FLATCAR_APP_ID, "a"].version == "1.0.0"


# Releases


async def test_an_offer_names_all_packages_with_digests_as_nebraska_writes_them(
    talk: Talk, upstream: Upstream
) -> None:
    [app] = (await talk.post(Request(apps=(checking("1.0.0", "a"),)))).apps
    check = app.update_check
    assert check is not None
    assert check.manifest is not None
    payload, extra = check.manifest.packages
    [action] = check.manifest.actions
    body = b"amd64-usr 2.0.0"
    assert [url.codebase for url in check.urls] == [upstream.url("/amd64-usr/2.0.0/")]
    assert (payload.name, payload.size, payload.required) == (PAYLOAD, len(body), True)
    assert (extra.name, extra.size, extra.required) == ("oem-azure.gz", 5, False)
    assert action.sha256 is not None
    assert action.sha256.raw == hashlib.sha256(body).digest()
    assert payload.hash is not None
    assert payload.hash.raw == hashlib.sha1(body).digest()
    assert payload.hash_sha256 is None
    assert extra.hash_sha256 is not None
    assert extra.hash_sha256.hex == hashlib.sha256(b"azure").hexdigest()


async def test_the_files_can_be_fetched_from_the_codebase(talk: Talk, upstream: Upstream) -> None:
    fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))
    codebase = talk.nebraska.releases["arm64-usr", "3.0.0"].codebase
    assert await fetcher.small(codebase + PAYLOAD, limit=99, deadline=10) == b"arm64-usr 3.0.0"
    await fetcher.close()


# Syncers


@pytest.mark.parametrize("capable", [True, False])
async def test_a_syncer_gets_all_steps_at_once_or_none(talk: Talk, capable: bool) -> None:
    app = AppRequest(
        appid=FLATCAR_APP_ID,
        version="1.0.0",
        track="stable",
        machineid="{01234567-89ab-cdef-0123-456789abcdef}",
        multi_manifest_ok=capable or None,
        update_check=UpdateCheckRequest(),
    )
    request = Request(version=SYNCER, installsource="scheduler", os=Os(arch="x64"), apps=(app,))
    [answer] = (await talk.post(request)).apps
    assert answer.update_check is not None
    steps = [(m.version, m.is_floor, m.is_target) for m in answer.update_check.manifests]
    assert steps == ([("2.0.0", True, None), ("3.0.0", None, True)] if capable else [])


def test_it_can_be_made_and_changed_on_an_upstream_in_a_thread() -> None:
    def publish(nebraska: Nebraska) -> Group:
        nebraska.publish("1.0.0", {PAYLOAD: b"one"})
        return nebraska.group("stable", "1.0.0")

    with ThreadedUpstream() as upstream:
        nebraska = upstream.do(Nebraska)
        upstream.do(lambda _: publish(nebraska))
        assert nebraska.url == upstream.url(PATH)
