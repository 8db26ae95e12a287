"""What the Omaha endpoint tells machines, and what it does with requests that are none."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from omaha_mirror.omaha import (
    AppRequest,
    AppResponse,
    normalise_app_id,
    parse_request,
    parse_response,
)
from omaha_mirror.policy.decide import Decision
from omaha_mirror.web import request as reading
from omaha_mirror.web.http_connection import MOST
from tests.support.mirror import DATA, PAYLOAD, PAYLOAD_PATH, Mirror, mirror_in_process, omaha
from tests.support.talk import Answer, ask, dial, request
from tests.support.upstream import Upstream
from tests.web.conftest import BODY

REQUESTS = sorted(path.stem for path in (DATA / "omaha").glob("request_*.xml"))
BROKEN = sorted(path.stem for path in (DATA / "omaha").glob("broken_*.xml"))
OFFERED = ("request_check_first", "request_check_later", "request_check_rolled_back")
"""Nebraska's syncer names no board, the others are up to date or ask for something else."""
FIRST = omaha("request_check_first")
END = FIRST.index(b"</app>")


def changed(**attributes: str) -> bytes:
    """A machine's first check with other attributes of its app."""
    head, tag, app = FIRST.decode().partition("<app")
    for name, value in attributes.items():
        app, count = re.subn(rf' {name}="[^"]*"', f' {name}="{value}"', app)
        assert count == 1
    return f"{head}{tag}{app}".encode()


async def status(mirror: Mirror, **attributes: str) -> str:
    """What `<updatecheck>` says to such a machine; its app is well known."""
    [app] = (await mirror.response(changed(**attributes))).apps
    assert app.status == "ok"
    assert app.update_check is not None
    return app.update_check.status


def reasons(logs: Sequence[Mapping[str, object]]) -> list[object]:
    return [entry["reason"] for entry in logs if entry["event"] == "check"]


# What machines are told


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_recorded_request_is_answered_app_by_app(mirror: Mirror, name: str) -> None:
    asked = parse_request(omaha(name))
    answer = await mirror.check(name)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert answer.body.endswith(b"</response>")
    told = parse_response(answer.body)
    for app, reply in zip(asked.apps, told.apps, strict=True):
        assert reply.appid == normalise_app_id(app.app_id)
        assert (reply.ping is not None) == (app.ping is not None)
        assert [event.status for event in reply.events] == ["ok"] * len(app.events)
        assert (reply.update_check is not None) == (app.update_check is not None)
        if reply.update_check is not None:
            assert reply.update_check.status == ("ok" if name in OFFERED else "noupdate")


async def test_an_offer_is_what_real_clients_need(mirror: Mirror) -> None:
    answer = await mirror.check()
    assert b"xmlns" not in answer.body
    [app] = parse_response(answer.body).apps
    check = app.update_check
    assert check is not None
    assert check.manifest is not None
    [url] = check.urls
    assert re.fullmatch(r"http://mirror\.test:8000/packages/3815\.2\.1-[0-9a-f]{8}/", url.codebase)
    [package] = check.manifest.packages
    assert (package.name, package.size) == (PAYLOAD, len(BODY))
    [action] = check.manifest.actions
    digest = hashlib.sha256(BODY)
    assert f'hash_sha256="{digest.hexdigest()}"'.encode() in answer.body
    assert f'sha256="{base64.b64encode(digest.digest()).decode()}"'.encode() in answer.body
    assert (action.event, action.disable_payload_backoff) == ("postinstall", True)


async def test_events_and_pings_ask_nothing_of_upstream(mirror: Mirror, release: Upstream) -> None:
    for name in ("request_event_failed", "request_ping_only"):
        assert (await mirror.check(name)).status == 200
    assert release.log == []


async def test_an_unknown_app_is_told_so_and_the_next_app_is_served(mirror: Mirror) -> None:
    known = re.search(r"<app .*</app>", FIRST.decode(), re.DOTALL)
    assert known is not None
    other = '<app appid="other" version="1.0.0"><updatecheck/></app>'
    body = f'<request protocol="3.0">{other}{known[0]}</request>'.encode()
    first, second = (await mirror.response(body)).apps
    assert _outcome(first) == ("other", "error-unknownApplication", "noupdate")
    assert _outcome(second)[1:] == ("ok", "ok")


def _outcome(app: AppResponse) -> tuple[str, str, str]:
    assert app.update_check is not None
    return app.appid, app.status, app.update_check.status


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"version": "3815.2.1"}, "up-to-date"),
        ({"version": "3815.2.1+build"}, "up-to-date"),
        ({"version": "3815.2.2"}, "newer-than-pin"),
        ({"version": "99999.0.0"}, "newer-than-pin"),
        ({"version": "no version"}, "version-unreadable"),
        ({"version": ""}, "version-unreadable"),
        ({"track": "held"}, "held"),
        ({"track": "never heard of"}, "held"),
        ({"board": "riscv-usr"}, "unknown-board"),
        ({"board": "arm64-usr"}, "not-released"),
    ],
)
async def test_whoever_gets_nothing_is_told_noupdate_and_the_log_says_why(
    release: Upstream, tmp_path: Path, attributes: dict[str, str], reason: str
) -> None:
    tracks = {"stable": "3815.2.1", "held": "hold"}
    async with mirror_in_process(tmp_path, release.origin, tracks=tracks) as mirror:
        with capture_logs() as logs:
            assert await status(mirror, **attributes) == "noupdate"
        assert reasons(logs) == [reason]
        assert await status(mirror) == "ok"


async def test_a_track_without_a_rule_has_the_default_one(
    release: Upstream, tmp_path: Path
) -> None:
    changes = {"tracks": {"stable": "hold"}, "default_track": "3815.2.1"}
    async with mirror_in_process(tmp_path, release.origin, **changes) as mirror:
        assert await status(mirror, track="never heard of") == "ok"
        assert await status(mirror, track="stable") == "noupdate"


async def test_the_answer_is_the_same_from_check_to_check(mirror: Mirror) -> None:
    first = await mirror.check()
    await mirror.get(await mirror.payload())
    again = [
        await mirror.check(),
        await mirror.check("request_check_first", Host="MIRROR.test:8000"),
    ]
    assert [answer.body for answer in again] == [first.body, first.body]


@pytest.mark.parametrize("path", ["/v1/update", "/v1/update/", "/v1/update/?x=1"])
async def test_the_path_may_end_in_a_slash(mirror: Mirror, path: str) -> None:
    assert (await ask(mirror.address, "POST", path, body=FIRST)).status == 200


async def test_a_long_answer_is_recorded_once(mirror: Mirror) -> None:
    head, app, tail = re.split(rb"(<app .*</app>)", FIRST, flags=re.DOTALL)
    await mirror.check()
    with capture_logs() as logs:
        answer = await mirror.post(head + app * 32 + tail)
    assert (answer.status, len(answer.body) > MOST) == (200, True)
    assert [entry["event"] for entry in logs] == ["check"] * 32


# Requests that cannot be answered


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_is_no_request_gets_one_plain_line(mirror: Mirror, name: str) -> None:
    answer = await mirror.post(omaha(name))
    assert answer.status in (400, 413, 415)
    assert answer.line


async def test_a_body_whose_coding_is_identity_is_read(mirror: Mirror) -> None:
    assert (await mirror.post(FIRST, **{"Content-Encoding": "Identity"})).status == 200


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused(mirror: Mirror, coding: str) -> None:
    answer = await mirror.post(FIRST, **{"Content-Encoding": coding})
    assert (answer.status, answer.line) == (415, "send the request without Content-Encoding")


async def test_a_large_body_is_refused_before_it_is_sent(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(request("POST", "/v1/update/", {"Content-Length": "1000000"}))
        answer = await talk.answer()
    assert (answer.status, answer.line) == (413, "a request has at most 65536 bytes")


async def test_a_large_body_without_a_length_is_not_read_to_its_end(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(_chunked_head(), *[b"400\r\n" + b" " * 1024 + b"\r\n"] * 65)
        assert (await talk.answer()).status == 413


async def test_a_chunked_body_is_read(mirror: Mirror) -> None:
    async with dial(mirror.address) as talk:
        await talk.send(_chunked_head(), f"{len(FIRST):x}\r\n", FIRST, "\r\n0\r\n\r\n")
        assert (await talk.answer()).status == 200


async def test_broken_chunks_are_the_clients_mistake(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.05)
    with capture_logs() as logs:
        async with dial(mirror.address) as talk:
            await talk.send(_chunked_head(), "what is this?\r\n")
            assert (await talk.answer()).status in (400, 408)
            await talk.rest()
    assert not [entry for entry in logs if entry["log_level"] == "error"]


def _chunked_head() -> bytes:
    head = request("POST", "/v1/update/", {"Transfer-Encoding": "chunked"})
    return head.replace(b"Content-Length: 0\r\n", b"")


async def test_a_slow_body_is_not_waited_for(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_SECONDS", 0.05)
    async with dial(mirror.address) as talk:
        await talk.send(request("POST", "/v1/update/", {"Content-Length": "700"}), FIRST[:100])
        assert (await talk.answer()).status == 408


async def test_a_client_that_waits_for_100_continue_gets_it(mirror: Mirror) -> None:
    headers = {"Expect": "100-continue", "Content-Length": str(len(FIRST))}
    async with dial(mirror.address) as talk:
        await talk.send(request("POST", "/v1/update/", headers))
        assert (await talk.head()).status == 100
        await talk.send(FIRST)
        answer = await talk.answer()
        assert answer.status == 200
        assert parse_response(answer.body).apps
        await talk.send(request("GET", "/healthz"))
        assert (await talk.answer()).status == 200


async def test_a_large_body_is_refused_instead_of_100_continue(mirror: Mirror) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "1000000"}
    async with dial(mirror.address) as talk:
        await talk.send(request("POST", "/v1/update/", headers))
        assert (await talk.answer()).status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_is_for_updates(mirror: Mirror, method: str) -> None:
    answer = await ask(mirror.address, method, "/v1/update/")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_a_defect_is_502_and_the_log_has_it(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> Decision:
        raise LookupError("a defect")

    def broken_at_once(*_: object) -> Decision:
        raise LookupError("a defect")

    monkeypatch.setattr(mirror.service.decisions, "at_once", broken_at_once)
    monkeypatch.setattr(mirror.service.decisions, "decide", broken)
    with capture_logs() as logs:
        answer = await mirror.check()
    assert answer.status == 502
    assert "a defect" not in answer.line
    assert [(entry["log_level"], str(entry["exc_info"])) for entry in logs] == [
        ("error", "a defect")
    ]


async def test_a_defect_with_one_app_leaves_no_other_undecided_in_the_background(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[AppRequest] = []
    ended: list[AppRequest] = []

    async def broken(_: object, app: AppRequest, __: str) -> Decision:
        begun.append(app)
        if len(begun) > 1:
            raise LookupError("the first defect")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(app)
            raise LookupError("the second defect")

    monkeypatch.setattr(mirror.service.decisions, "at_once", lambda *_: None)
    monkeypatch.setattr(mirror.service.decisions, "decide", broken)
    body = FIRST.replace(b"</app>", b"</app>" + FIRST[FIRST.index(b"<app") : END] + b"</app>")
    with capture_logs() as logs:
        assert (await mirror.post(body)).status == 502
    assert ended == begun[:1]
    [defects] = [entry["exc_info"] for entry in logs]
    assert isinstance(defects, ExceptionGroup)
    assert sorted(map(str, defects.exceptions)) == ["the first defect", "the second defect"]


# Under which name the mirror is known

HOSTILE = [
    "<script>alert(1)</script>",
    "a b",
    "",
    "evil/path",
    'a"b',
    "user@evil",
    "a?b",
    "a#b",
    "\x01",
    "ä.example",
    "a:port",
    "a" * 300,
]


async def test_a_port_may_be_empty(mirror: Mirror) -> None:
    answer = await mirror.check(Host="mirror.test:")
    assert b'codebase="http://mirror.test/packages/' in answer.body


@pytest.mark.parametrize("host", HOSTILE)
async def test_a_host_that_is_none_is_refused(mirror: Mirror, host: str) -> None:
    answer = await mirror.check(Host=host)
    assert answer.status == 400
    assert answer.line


@pytest.mark.parametrize(
    "lines", ["Host: mirror\r\n evil\r\n", "Host: mirror\n evil\r\n", "Host: a\r\nHost: b\r\n"]
)
async def test_a_host_of_several_lines_is_refused(mirror: Mirror, lines: str) -> None:
    async with dial(mirror.address) as talk:
        head = f"POST /v1/update/ HTTP/1.1\r\n{lines}Content-Length: {len(FIRST)}\r\n\r\n"
        await talk.send(head, FIRST)
        answer = await talk.answer()
    assert answer.status == 400
    assert answer.line


async def _without_host(mirror: Mirror) -> Answer:
    async with dial(mirror.address) as talk:
        await talk.send(f"POST /v1/update/ HTTP/1.0\r\nContent-Length: {len(FIRST)}\r\n\r\n", FIRST)
        return await talk.answer()


async def test_a_client_that_names_no_host_is_refused(mirror: Mirror) -> None:
    assert "Host header" in (await _without_host(mirror)).line


async def test_with_a_public_url_the_host_does_not_matter(
    release: Upstream, tmp_path: Path
) -> None:
    url = "https://updates.example"
    async with mirror_in_process(tmp_path, release.origin, public_url=url) as mirror:
        answers = [await mirror.check(), await mirror.check("request_check_first", Host="<script>")]
        answers.append(await _without_host(mirror))
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert {answer.body for answer in answers} == {answers[0].body}
    assert b'codebase="https://updates.example/packages/3815.2.1-' in answers[0].body


# The log


async def test_a_broken_client_is_logged_once_for_its_address(mirror: Mirror) -> None:
    with capture_logs() as logs:
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            async with dial(mirror.address, source=source) as talk:
                await talk.send(request("POST", "/v1/update/", body=b"<html>"))
                assert (await talk.answer()).status == 400
    warned = [entry["remote"] for entry in logs if entry["log_level"] == "warning"]
    assert warned == ["127.0.0.2", "127.0.0.3"]


async def test_an_oem_that_is_no_name_reaches_no_path(mirror: Mirror, release: Upstream) -> None:
    assert await status(mirror, oem="../../x") == "ok"
    assert {entry.path for entry in release.log} == {PAYLOAD_PATH, f"{PAYLOAD_PATH}.sha256"}
