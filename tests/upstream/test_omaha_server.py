"""Asking an Omaha server: what is asked, and what counts as an answer."""

import threading
from pathlib import Path

import pytest

from omaha_mirror.omaha import (
    AT_ONCE,
    FLATCAR_APP_ID,
    Request,
    Response,
    UpdateStatus,
    parse_request,
    parse_response,
    serialise_request,
)
from omaha_mirror.upstream.errors import BadAnswer, BadStatus, Dropped, TooLarge
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.omaha_server import ANSWER_LIMIT, OmahaServer, question
from tests.support.nebraska import PATH, SYNCER, Nebraska
from tests.support.upstream import Fin, Redirect, Status, Upstream

MESSAGES = Path(__file__).parent.parent / "data" / "omaha"
PAYLOAD = "flatcar_production_update.gz"
MACHINE = "0123456789abcdef0123456789abcdef"


def asked(version: str = "0.0.0", board: str = "amd64-usr") -> Request:
    return question(MACHINE, FLATCAR_APP_ID, board, "stable", version)


@pytest.fixture
def server(upstream: Upstream, fetcher: HttpFetcher) -> OmahaServer:
    return OmahaServer(fetcher, upstream.url(PATH))


def test_a_question_is_a_check_of_update_engine_without_ping_and_events() -> None:
    theirs = parse_request((MESSAGES / "request_check_first.xml").read_bytes())
    ours = asked("3815.2.0")
    [app], [machine] = ours.apps, theirs.apps
    assert (app.ping, app.events) == (None, ())
    assert app.update_check == machine.update_check
    for name in ("appid", "version", "track", "lang", "board", "delta_okay"):
        assert getattr(app, name) == getattr(machine, name), name
    for name in ("protocol", "installsource", "ismachine", "os"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_question_is_the_same_for_the_same_channel_and_version() -> None:
    assert serialise_request(asked()) == serialise_request(asked())


def test_a_question_for_arm64_says_so_in_every_way() -> None:
    request = asked("3815.2.0", "arm64-usr")
    assert request.os is not None
    assert (request.os.sp, request.apps[0].board) == ("3815.2.0_aarch64", "arm64-usr")


def test_a_question_comes_neither_from_a_machine_nor_from_a_syncer() -> None:
    request = asked()
    assert request.apps[0].machineid == "{01234567-89ab-cdef-0123-456789abcdef}"
    assert SYNCER not in (request.version, request.updaterversion)


@pytest.mark.parametrize("machine_id", ["", "machine-1", "0123"])
def test_a_question_needs_a_whole_machine_id(machine_id: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        question(machine_id, FLATCAR_APP_ID, "amd64-usr", "stable", "0.0.0")


async def test_an_answer_is_read(upstream: Upstream, server: OmahaServer) -> None:
    body = (MESSAGES / "response_upstream.xml").read_bytes()
    upstream.put(PATH, body)
    assert await server.ask(asked()) == parse_response(body)
    assert parse_request(upstream.log[0].body) == asked()


async def test_a_server_that_has_moved_is_found(upstream: Upstream, fetcher: HttpFetcher) -> None:
    nebraska = Nebraska(upstream)
    upstream.fault("/old/", Redirect(PATH, 308))
    moved = OmahaServer(fetcher, upstream.url("/old/"))
    assert (await moved.ask(asked())).server == "nebraska"
    assert nebraska.requests == [asked()]


def bomb() -> bytes:
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    return (
        f'<!DOCTYPE response [<!ENTITY e0 "0123456789">{entities}]>'
        '<response protocol="3.0"><app status="&e9;"/></response>'
    ).encode()


NO_ANSWERS = {
    "empty": b"",
    "HTML": b"<html><body><p>Please log in.</body></html>",
    "HTML with a DOCTYPE": b"<!DOCTYPE html><html><body>Please log in.</body></html>",
    "XHTML": b'<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>',
    "JSON": b'{"error": "no"}',
    "truncated": (MESSAGES / "response_offer.xml").read_bytes()[:-20],
    "entity bomb": bomb(),
    "protocol 2": b'<response protocol="2.0"/>',
    "no protocol": b"<response/>",
    "a request": serialise_request(asked()),
    "namespace": b'<response xmlns="http://update.example" protocol="3.0"/>',
    "UTF-16": '<response protocol="3.0"/>'.encode("utf-16"),
    "too many elements": b'<response protocol="3.0">%s</response>' % (b"<app/>" * 20_000),
    "deep": b'<response protocol="3.0">%s%s</response>' % (b"<a>" * 5000, b"</a>" * 5000),
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_what_is_no_answer_is_refused_in_words_that_name_the_address(
    upstream: Upstream, server: OmahaServer, body: bytes
) -> None:
    upstream.put(PATH, body)
    with pytest.raises(BadAnswer, match="not the response of an Omaha server") as caught:
        await server.ask(asked())
    assert server.url in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


async def test_30_mb_of_xml_are_refused_unread(upstream: Upstream, server: OmahaServer) -> None:
    upstream.put(PATH, b'<response protocol="3.0">%s</response>' % (b"<app/>" * 5_000_000))
    with pytest.raises(TooLarge, match=str(ANSWER_LIMIT)):
        await server.ask(asked())


async def test_a_policy_is_an_answer(upstream: Upstream, server: OmahaServer) -> None:
    Nebraska(upstream).group("stable", None)
    [app] = (await server.ask(asked())).apps
    assert app.update_check is not None
    assert (app.status, app.update_check.status) == ("error-noPackageFound", UpdateStatus.INTERNAL)


@pytest.mark.parametrize("body", [b"", b"ok\n", b"<html>"])
async def test_events_are_delivered_whatever_a_200_says(
    upstream: Upstream, server: OmahaServer, body: bytes
) -> None:
    upstream.put(PATH, body)
    told = parse_request((MESSAGES / "request_event_failed.xml").read_bytes())
    await server.deliver(serialise_request(told))
    assert parse_request(upstream.log[0].body) == told


async def test_events_that_no_200_answers_are_not_delivered(
    upstream: Upstream, server: OmahaServer
) -> None:
    upstream.put(PATH, b"<response/>")
    upstream.fault(PATH, Status(503, times=1))
    upstream.fault(PATH, Fin(at=3, times=1))
    with pytest.raises(BadStatus):
        await server.deliver(serialise_request(asked()))
    with pytest.raises(Dropped):
        await server.deliver(serialise_request(asked()))


async def test_the_mirrors_own_walk_closes_every_grant_and_takes_nobodys_turn(
    upstream: Upstream, server: OmahaServer
) -> None:
    nebraska = Nebraska(upstream)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        nebraska.publish(version, {PAYLOAD: version.encode()})
    group = nebraska.group("stable", "3.0.0", floors=["1.0.0", "2.0.0"])
    group.max_updates, group.safe_mode = 1, True
    told, at = [], "0.0.0"
    for _ in range(7):
        [app] = (await server.ask(asked(at))).apps
        assert app.update_check is not None
        manifest = app.update_check.manifest
        at = manifest.version if manifest else at
        told.append(manifest.version if manifest else app.update_check.status)
    noupdate = UpdateStatus.NO_UPDATE
    assert told == ["1.0.0", noupdate, "2.0.0", noupdate, "3.0.0", noupdate, noupdate]
    assert nebraska.open_grants() == []
    assert not any(instance.counts for instance in nebraska.instances.values())


@pytest.mark.parametrize(("size", "at_once"), [(AT_ONCE // 2, True), (4 * AT_ONCE, False)])
async def test_a_large_answer_is_read_in_a_worker(
    upstream: Upstream,
    server: OmahaServer,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    at_once: bool,
) -> None:
    threads = []

    def read(body: bytes) -> Response:
        threads.append(threading.get_ident())
        return parse_response(body)

    monkeypatch.setattr("omaha_mirror.upstream.omaha_server.parse_response", read)
    body = b'<response protocol="3.0"><app appid="x"/>' + b" " * size + b"</response>"
    upstream.put(PATH, body)
    [app] = (await server.ask(asked())).apps
    assert app.appid == "x"
    assert (threads == [threading.get_ident()]) is at_once


async def test_an_answer_of_40000_attributes_is_refused(
    upstream: Upstream, server: OmahaServer
) -> None:
    attributes = " ".join(f'a{i}=""' for i in range(40_000))
    upstream.put(PATH, f'<response protocol="3.0" {attributes}/>'.encode())
    with pytest.raises(BadAnswer, match="more than 64 attributes"):
        await server.ask(asked())
