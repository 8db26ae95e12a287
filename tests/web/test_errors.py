"""What goes wrong in the mirror itself: it is logged with its traceback, answered with a plain line, and ends nothing else."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpRawServer
from structlog.testing import capture_logs

from omaha_mirror.aio.tasks import DEFECT
from omaha_mirror.config import Address
from omaha_mirror.observability import log_lines
from omaha_mirror.omaha import BadValue
from omaha_mirror.web.errors import answered, plain
from tests.support.logs import Logs
from tests.support.mirror import PAYLOAD_PATH, Mirror, omaha
from tests.support.talk import Talk, dial, request
from tests.web.asking import Api, api_of
from tests.web.conftest import BODY

CHECK = request("POST", "/v1/update/", body=omaha("request_check_first"))
SECRET = "what it says is not for machines"


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError(SECRET)


def cancelled(*_: object, **__: object) -> Any:
    """As where the work that somebody waits for is ended by somebody else."""
    raise asyncio.CancelledError


def refused(*_: object, **__: object) -> Any:
    """As a driver does, whose server is gone."""
    raise ConnectionRefusedError(SECRET)


async def said(talk: Talk, asked: bytes) -> tuple[int, bytes]:
    await talk.send(asked)
    answer = await talk.answer()
    return answer.status, answer.body


@pytest.mark.parametrize("trouble", [fail, cancelled, refused])
async def test_a_check_that_fails_here_is_answered_and_the_connection_goes_on(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Any]
) -> None:
    async with dial(mirror.address) as talk:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(mirror.service.decisions, "decide", trouble)
            status, body = await said(talk, CHECK)
        assert status == 502
        assert body == f"{DEFECT}\n".encode()
        [line] = [line for line in logs if line["event"] == "unexpected"]
        assert line["exc_info"].__traceback__ is not None
        assert (await said(talk, CHECK))[0] == 200


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("decisions", "forward_reports"),
        ("observer", "on_app"),
        ("observer", "on_bad_request"),
        ("observer", "on_package_error"),
        ("observer", "on_transfer_end"),
        ("observer", "on_bytes"),
    ],
)
async def test_what_cannot_be_counted_or_recorded_is_answered_all_the_same(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, part: str, name: str
) -> None:
    monkeypatch.setattr(getattr(mirror.service, part), name, fail)
    async with dial(mirror.address) as talk:
        assert (await said(talk, CHECK))[0] == 200
        assert await said(talk, request("GET", await mirror.payload())) == (200, BODY)
        assert (await said(talk, request("GET", "/nothing")))[0] == 404
        assert (await said(talk, request("POST", "/v1/update/", body=b"<no")))[0] == 400


async def test_a_fill_goes_on_though_what_happens_cannot_be_told(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "log_event", fail)
    answer = await mirror.get(PAYLOAD_PATH)
    assert (answer.status, answer.body) == (200, BODY)


def timed_out(*_: object, **__: object) -> Any:
    """As where nobody expected a time-out: it says nothing, and no disk said it."""
    raise TimeoutError


def failing_disk(*_: object, **__: object) -> Any:
    raise OSError(5, SECRET, f"/var/lib/{SECRET}")


@pytest.mark.parametrize(
    ("trouble", "label"), [(fail, "unexpected"), (timed_out, "unexpected"), (failing_disk, "disk")]
)
async def test_a_package_that_fails_here_is_a_plain_line_counted_and_in_the_log(
    mirror: Mirror,
    monkeypatch: pytest.MonkeyPatch,
    logs: Logs,
    trouble: Callable[..., Any],
    label: str,
) -> None:
    path = await mirror.payload()
    failed: list[str] = []
    monkeypatch.setattr(mirror.service.observer, "on_package_error", failed.append)
    monkeypatch.setattr(mirror.service.packages, "read", trouble)
    async with dial(mirror.address) as talk:
        assert await said(talk, request("GET", path)) == (502, f"{DEFECT}\n".encode())
    assert failed == [label]
    assert {line["outcome"] for line in logs if line["event"] == "package"} == {label}
    tracebacks = [line["exception"] for line in logs if "Traceback" in line.get("exception", "")]
    assert len(tracebacks) == (label == "unexpected")


async def test_an_answer_that_cannot_be_written_is_no_fault_of_the_machine(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    def unwritable(*_: object, **__: object) -> Any:
        raise BadValue(SECRET)

    monkeypatch.setattr("omaha_mirror.web.update.localise", unwritable)
    async with dial(mirror.address) as talk:
        assert await said(talk, CHECK) == (502, f"{DEFECT}\n".encode())
    assert any(SECRET in line.get("exception", "") for line in logs)


async def test_an_error_while_an_error_is_answered_ends_no_other_request(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dial(mirror.address) as talk, dial(mirror.address) as other:
        monkeypatch.setattr("omaha_mirror.web.rate_limited_log.RateLimitedLog.tell", fail)
        assert (await said(talk, request("GET", "/nothing")))[0] == 502
        assert (await said(talk, CHECK))[0] == 200
        assert (await said(other, CHECK))[0] == 200


async def test_the_admin_listener_answers_in_json(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_of(mirror) as api:
        for trouble in (fail, timed_out):
            monkeypatch.setattr(mirror.service.tracks, "paths", trouble)
            answer = await api.ask("GET", "/api/v1/tracks")
            assert (answer.status, json.loads(answer.body)["error"]) == (502, DEFECT)


async def test_a_defect_in_giving_a_rule_is_no_fault_of_the_operator(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    def wrong(*_: object) -> Any:
        raise ValueError(SECRET)

    monkeypatch.setattr("omaha_mirror.policy.track_rules.write", wrong)
    async with api_of(mirror) as api:
        assert await api.refused("POST", "tracks/stable/hold", 502, {}) == DEFECT
    assert any(SECRET in line.get("exception", "") for line in logs)


async def test_what_the_database_of_the_fleet_took_is_counted(mirror: Mirror) -> None:
    async with api_of(mirror) as api, dial(mirror.address) as talk:
        before = await sent_to_fleet(api)
        assert (await said(talk, CHECK))[0] == 200
        await mirror.service.fleet_feed.recorder.flush()
        assert await sent_to_fleet(api) > before
        assert (await api.get("machines"))["total"] == 1


async def sent_to_fleet(api: Api) -> float:
    metrics = (await api.ask("GET", "/metrics")).body.decode()
    [line] = [line for line in metrics.splitlines() if line.startswith(SENT)]
    return float(line.removeprefix(SENT))


SENT = 'omaha_mirror_queue_ended_total{outcome="sent",queue="fleet"} '


async def test_a_check_or_a_metric_that_fails_leaves_the_others(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    async with api_of(mirror) as api:
        monkeypatch.setattr(mirror.service.catalog, "channels", fail)
        answer = await api.ask("GET", "/readyz")
        assert answer.status == 200
        told = json.loads(answer.body)
        assert told["state"] == "degraded"
        assert {"cache", "log", "checks"} <= {check["name"] for check in told["checks"]}
        metrics = (await api.ask("GET", "/metrics")).body
        assert b"omaha_mirror_cache_used_bytes" in metrics
        assert b"omaha_mirror_track_trouble" not in metrics
    assert "a check of the mirror's health failed" in str(logs)
    assert "omaha_mirror_track_trouble" in str(logs)
    assert SECRET in str(logs)


async def test_a_body_that_breaks_off_ends_in_a_closed_connection(
    aiohttp_raw_server: AiohttpRawServer,
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"half")
        raise RuntimeError(SECRET)

    server = await aiohttp_raw_server(partial(answered, answer=answer, say=plain))
    async with dial(Address(server.host, server.port or 0)) as talk:
        await talk.send(request("GET", "/"))
        assert (await talk.head()).status == 200
        assert await talk.rest() == b"half"
