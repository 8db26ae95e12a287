"""The description of the API, held against the API."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from omaha_mirror.cache.lock import in_use
from omaha_mirror.web.admin import token as admin_token
from omaha_mirror.web.admin.app import admin_routes
from tests.fleet.scene import ASK, event
from tests.support.mirror import PAYLOAD_PATH, VERSION, Mirror, MirrorProcess, omaha
from tests.support.talk import Answer
from tests.support.upstream import Upstream
from tests.web.asking import BEARER, Api, api_of
from tests.web.conftest import BODY

CHECK = omaha("request_check_first").decode()
KEY = "{key}"
EXPORTED = "{exported}"
"""Stand for a key in the cache, and for what the operation before answered."""
SAMPLES: dict[tuple[str, str], list[tuple[str, Any]]] = {
    ("get", "/readyz"): [("/readyz", None)],
    ("get", "/metrics"): [("/metrics", None)],
    ("get", "/api/v1/openapi.json"): [("/api/v1/openapi.json", None)],
    ("get", "/api/v1/status"): [("/api/v1/status", None)],
    ("get", "/api/v1/releases"): [("/api/v1/releases", None)],
    ("get", "/api/v1/tracks"): [("/api/v1/tracks", None)],
    ("get", "/api/v1/tracks/{track}"): [("/api/v1/tracks/stable", None)],
    ("post", "/api/v1/tracks/{track}/pin"): [
        ("/api/v1/tracks/edge/pin", {"version": VERSION, "packages": ["oem-azure.gz"]})
    ],
    ("post", "/api/v1/tracks/{track}/hold"): [("/api/v1/tracks/edge/hold", None)],
    ("post", "/api/v1/tracks/{track}/release"): [("/api/v1/tracks/edge/release", None)],
    ("post", "/api/v1/tracks/release"): [("/api/v1/tracks/release", None)],
    ("post", "/api/v1/sync"): [("/api/v1/sync", {})],
    ("post", "/api/v1/fetch"): [("/api/v1/fetch", {"target": VERSION})],
    ("get", "/api/v1/cache"): [("/api/v1/cache", None)],
    ("get", "/api/v1/fills"): [("/api/v1/fills", None)],
    ("post", "/api/v1/cache/verify"): [("/api/v1/cache/verify", {"keys": [KEY]})],
    ("post", "/api/v1/cache/gc"): [("/api/v1/cache/gc", {"dry_run": True})],
    ("delete", "/api/v1/cache/{key}"): [(f"/api/v1/cache/{KEY}", None)],
    ("post", "/api/v1/bundle/prepare"): [("/api/v1/bundle/prepare", {"track": "stable"})],
    ("post", "/api/v1/bundle/announce"): [("/api/v1/bundle/announce", {"track": "stable"})],
    ("post", "/api/v1/bundle/export"): [("/api/v1/bundle/export", {"track": "stable"})],
    ("post", "/api/v1/bundle/import"): [("/api/v1/bundle/import", EXPORTED)],
    ("get", "/api/v1/machines"): [
        ("/api/v1/machines", None),
        ("/api/v1/machines?search=web&state=error&sort=version&order=asc&page=1&per_page=5", None),
    ],
    ("get", "/api/v1/machines/{name}"): [(f"/api/v1/machines/{ASK.alias}", None)],
    ("get", "/api/v1/events"): [("/api/v1/events?limit=5", None)],
    ("get", "/api/v1/decisions"): [("/api/v1/decisions", None)],
    ("post", "/api/v1/explain"): [("/api/v1/explain", {"request": CHECK, "upstream": True})],
}
"""What is asked of every operation, in this order: one that is not here fails a test."""


@pytest.fixture
async def api(mirror: Mirror) -> AsyncIterator[Api]:
    """With a package, a machine, and a failure."""
    async with api_of(mirror) as api:
        assert (await mirror.get(await mirror.payload())).body == BODY
        await mirror.until(lambda: bool(mirror.ended()))
        api.record(ASK, event(3, 0, 9))
        await api.when("events", lambda reply: bool(reply["events"]))
        yield api


@pytest.fixture
async def described(api: Api) -> Any:
    return await api.get("openapi.json")


def operations(described: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def check(described: Any, operation: Any, answer: Answer) -> None:
    """Hold an answer to what is said of its status."""
    responses = operation["responses"]
    media = answer.headers["content-type"].partition(";")[0]
    reply = responses.get(str(answer.status), responses["default"])["content"][media]
    if reply["schema"].get("format") == "binary":
        return
    schema = {**reply["schema"], "components": described["components"]}
    text = answer.body.decode()
    values: list[Any] = [text]
    if media != "text/plain":
        values = [json.loads(line) for line in text.splitlines()]
    assert values
    for value in values:
        Draft202012Validator(schema).validate(value)
        if isinstance(value, dict) and "$ref" in reply["schema"]:
            # Nothing is told that is not described.
            shape = described["components"]["schemas"][reply["schema"]["$ref"].rpartition("/")[2]]
            assert value.keys() == shape["properties"].keys()


async def test_every_route_of_the_api_is_described(api: Api, described: Any) -> None:
    routes = [r for r in admin_routes(api.mirror.service) if r.path.pattern.startswith("/api/")]
    reply = {(method, path) for method, path, _ in operations(described)}
    assert len(reply - {("get", "/readyz"), ("get", "/metrics")}) == len(routes)
    for route in routes:
        assert route.handler.__doc__, route.path
        assert route.gives is not None, route.path
    for method, path, operation in operations(described):
        found = [r for r in admin_routes(api.mirror.service) if r.path.fullmatch(_filled(path))]
        assert method.upper() in {m for route in found for m in route.methods}
        assert operation["summary"].endswith(".")
    assert described["openapi"] == "3.1.0"


def _filled(path: str) -> str:
    return path.replace("{key}", "ab" * 32).replace("{track}", "stable").replace("{name}", "web")


async def test_every_operation_answers_as_described(api: Api, described: Any) -> None:
    reply = {(method, path): operation for method, path, operation in operations(described)}
    assert reply.keys() == SAMPLES.keys()
    [blob] = (await api.get("cache"))["blobs"]
    last = b""
    for at, samples in SAMPLES.items():
        for path, body in samples:
            sent = json.dumps(body).replace(KEY, blob["key"]).encode()
            data = last if body is EXPORTED else b"" if body is None else sent
            answer = await whole(api, at[0].upper(), path.replace(KEY, blob["key"]), data)
            assert answer.status == 200, (path, answer.body)
            check(described, reply[at], answer)
            last = answer.body


async def whole(api: Api, method: str, path: str, body: bytes) -> Answer:
    """An answer without its transfer coding."""
    url = f"http://127.0.0.1:{api.address.port}{path}"
    async with (
        aiohttp.ClientSession(headers=BEARER) as session,
        session.request(method, url, data=body or None) as answer,
    ):
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, headers, await answer.read())


async def test_every_refusal_is_as_described(api: Api, described: Any) -> None:
    for method, path, operation in operations(described):
        ask = method.upper(), _filled(path)
        if method != "get":
            answer = await api.ask(*ask, token=None)
            assert answer.status == 401
            check(described, operation, answer)
        if operation["parameters"] and method == "get":
            answer = await api.ask(ask[0], f"{ask[1]}?nonsense=1")
            assert answer.status in (200, 400)
            check(described, operation, answer)
        if "application/json" in operation.get("requestBody", {}).get("content", ()):
            wrong: tuple[Any, ...] = ([], {"nonsense": 1}, 7)
            for body in wrong:
                answer = await api.ask(*ask, body)
                assert answer.status == 400
                check(described, operation, answer)


async def test_parameters_are_described_as_they_are_read(described: Any) -> None:
    reply = {p["name"]: p for p in described["paths"]["/api/v1/machines"]["get"]["parameters"]}
    assert reply.keys() == {
        *("search", "state", "version", "track", "board", "page", "per_page", "sort", "order")
    }
    assert reply["per_page"]["schema"]["maximum"] == 1000
    assert {p["in"] for p in reply.values()} == {"query"}
    [key] = described["paths"]["/api/v1/cache/{key}"]["delete"]["parameters"]
    assert (key["in"], key["required"]) == ("path", True)


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_whatever_is_asked_the_answer_is_as_described_and_no_server_error(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, BODY)
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        assert (await mirror.get(await mirror.payload())).body == BODY
        found = in_use(tmp_path / "cache")
        assert found is not None
        assert found.holder is not None
        token = admin_token.read(tmp_path / "state" / "admin-token")
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).parent / "schemathesis"), "run"),
            f"http://{found.holder.admin}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "40", "--seed", "1", "--warnings", "off", "--no-color"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        # What was asked made no difference to the machines.
        assert (await mirror.get("/healthz")).status == 200
        assert [line for line in mirror.log if "unexpected" in line or "Traceback" in line] == []
