"""Package bytes: which of them are sent, under which head, and what is sent when there are none."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from omaha_mirror.cache import Limits
from omaha_mirror.cache.draft import DiskDraft
from tests.support.mirror import FOLDER, PAYLOAD, PAYLOAD_PATH, Mirror, mirror_in_process
from tests.support.talk import Answer, ask, dial, request
from tests.support.upstream import Drop, Status, Upstream
from tests.web.conftest import BODY

SIZE = len(BODY)
HALF = SIZE // 2
ETAG = f'"{hashlib.sha256(BODY).hexdigest()}"'
OTHER = f'"{"0" * 64}"'

WHOLE = (200, 0, SIZE)
HEAD_OF_IT = (206, 0, 1113)
PARTS = [
    ({}, WHOLE),
    ({"Range": "bytes=0-1112"}, HEAD_OF_IT),
    ({"Range": "bytes=0-0"}, (206, 0, 1)),
    ({"Range": f"bytes={HALF}-"}, (206, HALF, SIZE)),
    ({"Range": f"bytes={SIZE - 1}-"}, (206, SIZE - 1, SIZE)),
    ({"Range": "bytes=100-99999999999"}, (206, 100, SIZE)),
    ({"Range": "bytes=-500"}, (206, SIZE - 500, SIZE)),
    ({"Range": "bytes=-99999999999"}, (206, 0, SIZE)),
    ({"Range": "bytes=5-2"}, WHOLE),
    ({"Range": "bytes=0-10,20-30"}, WHOLE),
    ({"Range": "lines=0-10"}, WHOLE),
    ({"Range": "bytes"}, WHOLE),
    ({"Range": "bytes=0-1112", "If-Range": ETAG}, HEAD_OF_IT),
    ({"Range": "bytes=0-1112", "If-Range": OTHER}, WHOLE),
    ({"Range": "bytes=0-1112", "If-Range": f"W/{ETAG}"}, WHOLE),
    ({"Range": "bytes=0-1112", "If-Range": "Mon, 06 Jan 2025 10:00:00 GMT"}, WHOLE),
    ({"Range": "bytes=0-1112", "If-None-Match": OTHER}, HEAD_OF_IT),
    ({"If-Match": ETAG}, WHOLE),
]
"""Request headers; status, first offset, offset after the last."""
CACHE_STATUS = {
    "cold": "omaha-mirror; fwd=miss",
    "filling": "omaha-mirror; fwd=miss; collapsed",
    "full": "omaha-mirror; hit",
}

Open = Callable[[], None]
Trouble = Callable[[Upstream], Awaitable[None]]


@asynccontextmanager
async def in_state(
    mirror: Mirror, upstream: Upstream, state: str
) -> AsyncIterator[tuple[str, Open]]:
    """The payload's path, and what to call when the request under test has been sent."""
    path = await mirror.payload()
    if state == "cold":
        yield path, lambda: None
    elif state == "full":
        assert (await mirror.get(path)).body == BODY
        await mirror.until(lambda: len(mirror.ended()) == 1)
        yield path, lambda: None
    else:
        gate = upstream.hold(PAYLOAD_PATH, at=HALF)
        async with dial(mirror.address) as first:
            await first.send(request("GET", path))
            await gate.reached()
            yield path, gate.open
            assert (await first.answer()).body == BODY


@pytest.mark.parametrize(("headers", "expected"), PARTS)
@pytest.mark.parametrize("state", CACHE_STATUS)
async def test_exactly_what_was_asked_for_is_sent(
    mirror: Mirror,
    release: Upstream,
    state: str,
    headers: dict[str, str],
    expected: tuple[int, int, int],
) -> None:
    status, start, stop = expected
    async with in_state(mirror, release, state) as (path, go_on), dial(mirror.address) as talk:
        count = len(mirror.events)
        await talk.send(request("GET", path, headers))
        await mirror.until(lambda: len(mirror.events) > count)
        go_on()
        answer = await talk.answer()
    assert answer.status == status
    assert answer.body == BODY[start:stop]
    assert answer.length == stop - start
    assert answer.headers.get("content-range") == (
        f"bytes {start}-{stop - 1}/{SIZE}" if status == 206 else None
    )
    assert answer.headers["etag"] == ETAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["cache-status"] == CACHE_STATUS[state]
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize("headers", [{"Range": "bytes=-0"}, {"Range": f"bytes={SIZE}-"}])
@pytest.mark.parametrize("state", CACHE_STATUS)
async def test_a_range_without_a_byte_is_416(
    mirror: Mirror, release: Upstream, state: str, headers: dict[str, str]
) -> None:
    async with in_state(mirror, release, state) as (path, go_on):
        answer = await mirror.get(path, **headers)
        go_on()
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert answer.line


@pytest.mark.parametrize("state", CACHE_STATUS)
async def test_what_needs_no_byte_waits_for_none(
    mirror: Mirror, release: Upstream, state: str
) -> None:
    async with in_state(mirror, release, state) as (path, go_on):
        head = await ask(mirror.address, "HEAD", path, {"Range": "bytes=0-9"})
        unchanged = await mirror.get(path, **{"If-None-Match": f"{OTHER}, W/{ETAG}"})
        unchanged_head = await ask(mirror.address, "HEAD", path, {"If-None-Match": "*"})
        other = await mirror.get(path, **{"If-Match": OTHER})
        go_on()
    assert (head.status, head.length, head.headers["etag"]) == (200, SIZE, ETAG)
    assert "content-range" not in head.headers
    for answer in (unchanged, unchanged_head):
        assert (answer.status, answer.headers["etag"], answer.body) == (304, ETAG, b"")
    assert other.status == 412
    assert other.line
    if state == "cold":
        assert release.requests(PAYLOAD_PATH, "GET") == []


async def test_a_range_leaves_while_what_is_after_it_is_still_to_come(
    mirror: Mirror, release: Upstream
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=SIZE - 50_000)
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path, {"Range": f"bytes={HALF}-"}))
        head = await talk.head()
        await gate.reached()
        assert head.status == 206
        assert await talk.read(1000) == BODY[HALF : HALF + 1000]
        gate.open()
        assert await talk.read(SIZE - HALF - 1000) == BODY[HALF + 1000 :]


# The release server's own layout


async def test_the_release_servers_paths_work_without_a_check(mirror: Mirror) -> None:
    answer = await mirror.get(PAYLOAD_PATH)
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, BODY, ETAG)
    assert answer.headers["cache-control"] == "no-cache"
    sidecar = await mirror.get(f"{PAYLOAD_PATH}.sha256")
    assert sidecar.line == f"{ETAG[1:-1]}  {PAYLOAD}"


@pytest.mark.parametrize(
    "name", ["oem-other.gz", "oem-other.gz.sha256", "update.gz", "version.txt"]
)
async def test_what_is_not_offered_is_not_there(mirror: Mirror, name: str) -> None:
    answer = await mirror.get(f"{FOLDER}/{name}")
    assert answer.status == 404
    assert answer.line


async def test_another_version_is_not_fetched(mirror: Mirror, release: Upstream) -> None:
    assert (await mirror.get(f"/amd64-usr/1.2.3/{PAYLOAD}")).status == 404
    assert release.log == []


async def test_the_layout_can_be_off(release: Upstream, tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path, release.origin, release_layout="off") as mirror:
        assert (await mirror.get(await mirror.payload())).status == 200
        assert (await mirror.get(PAYLOAD_PATH)).status == 404


# Paths that are none

TRICKS = [
    "/packages/../../etc/passwd",
    f"/packages/../{PAYLOAD}",
    f"/packages/%2e%2e/{PAYLOAD}",
    f"/packages/..%2F..%2Fetc/{PAYLOAD}",
    "/packages/{release}/../../../etc/passwd",
    "/packages/{release}/%2e%2e",
    "/packages/{release}/..",
    "/packages/{release}/.",
    "/packages/{release}/",
    "/packages/{release}",
    "/packages//" + PAYLOAD,
    "//packages/{release}/" + PAYLOAD,
    "/packages/{release}%2F" + PAYLOAD,
    "/packages/{release}/%00",
    "/packages/{release}/" + PAYLOAD + "%00",
    "/packages/{release}/" + PAYLOAD + "\0",
    "/packages/{release}/" + PAYLOAD + "\x01",
    "/packages/{release}/" + PAYLOAD + "\x7f",
    "/packages/{release}/" + PAYLOAD + "/",
    "/packages/{release}/" + PAYLOAD + "\\",
    "/packages/{release}/" + "a" * 8_000,
    "/" + "a/" * 4_000,
    "/" + "a" * 60_000,
    "http://elsewhere.test/packages/{release}/" + PAYLOAD,
    "http://mirror.test:8000/packages/{release}/" + PAYLOAD,
    "elsewhere.test:443",
    "*",
    "packages",
    "?",
    "/ä",
    f"/amd64-usr/../{PAYLOAD}",
    f"/amd64-usr/%2e%2e/{PAYLOAD}",
    f"/AMD64-usr/3815.2.1/{PAYLOAD}",
]


@pytest.mark.parametrize("path", TRICKS, ids=lambda path: repr(path[:40]))
async def test_a_path_that_is_none_gets_one_plain_line(
    mirror: Mirror, release: Upstream, path: str
) -> None:
    folder = await mirror.folder()
    known = len(release.log)
    answer = await mirror.get(path.replace("/packages/{release}", folder.rstrip("/")))
    assert answer.status in (400, 404)
    assert answer.line
    assert len(release.log) == known
    assert (await mirror.get(folder + PAYLOAD)).body == BODY


# When there are no bytes


@pytest.fixture
def patience() -> float:
    """Seconds; a test that gets some bytes first gives a mirror on a busy machine more."""
    return 0.2


@pytest.fixture
async def hasty(
    release: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float
) -> AsyncIterator[Mirror]:
    """A mirror that keeps nobody waiting for long."""
    monkeypatch.setattr("omaha_mirror.composition.Limits", partial(Limits, patience=patience))
    async with mirror_in_process(tmp_path, release.origin, cache={"hold_back": 1000}) as mirror:
        yield mirror


async def raw(mirror: Mirror, path: str, headers: dict[str, str]) -> tuple[Answer | None, bytes]:
    """The answer and what follows it until the connection ends; no answer where there is none."""
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path, {"Connection": "close", **headers}))
        first = await talk.read(1)
        if not first:
            return None, b""
        talk.unread(first)
        return await talk.answer(), await talk.rest()


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1112"}, {"Range": "bytes=7-"}])
async def test_what_upstream_no_longer_has_is_404(
    mirror: Mirror, release: Upstream, headers: dict[str, str]
) -> None:
    path = await mirror.payload()
    release.remove(PAYLOAD_PATH)
    answer, _ = await raw(mirror, path, headers)
    assert answer is not None
    assert answer.status == 404
    assert answer.line


async def refused(upstream: Upstream) -> None:
    await upstream.refuse()
    upstream.cut_all()


async def failing(upstream: Upstream) -> None:
    upstream.fault(PAYLOAD_PATH, Status(503, method="GET"))


async def silent(upstream: Upstream) -> None:
    for start in (0, HALF):
        upstream.hold(PAYLOAD_PATH, at=start)


@pytest.mark.parametrize("trouble", [refused, failing, silent])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1112"}, {"Range": "bytes=0-"}])
async def test_a_first_byte_that_cannot_be_had_is_502_or_504(
    hasty: Mirror, release: Upstream, trouble: Trouble, headers: dict[str, str]
) -> None:
    path = await hasty.payload()
    await trouble(release)
    answer, after = await raw(hasty, path, headers)
    assert answer is not None
    assert answer.status in (502, 504)
    assert answer.line
    assert after == b""


@pytest.mark.parametrize("trouble", [refused, failing, silent])
async def test_a_rest_that_cannot_be_had_is_no_answer_at_all(
    hasty: Mirror, release: Upstream, trouble: Trouble
) -> None:
    path = await hasty.payload()
    await trouble(release)
    assert await raw(hasty, path, {"Range": f"bytes={HALF}-"}) == (None, b"")


@pytest.mark.parametrize("patience", [1.5])
async def test_a_body_that_cannot_be_finished_ends_in_a_closed_connection(
    hasty: Mirror, release: Upstream
) -> None:
    path = await hasty.payload()
    release.fault(PAYLOAD_PATH, Drop(at=HALF))
    async with dial(hasty.address) as talk:
        await talk.send(request("GET", path))
        head = await talk.head()
        assert (head.status, head.length) == (200, SIZE)
        assert await talk.rest() == BODY[:HALF]


@pytest.mark.parametrize("patience", [1.5])
async def test_upstream_comes_back_and_the_rest_is_served(hasty: Mirror, release: Upstream) -> None:
    path = await hasty.payload()
    gate = release.hold(PAYLOAD_PATH, at=HALF)
    async with dial(hasty.address) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        assert (
            await talk.read(HALF) == BODY[:HALF]
        )  # so a reset takes nothing with it that was sent
        release.fault(PAYLOAD_PATH, Drop(at=HALF))
        gate.open()
        await talk.rest()
    await hasty.until(lambda: len(hasty.ended()) == 1)
    release.heal(PAYLOAD_PATH)
    answer = await hasty.get(path, Range=f"bytes={HALF}-")
    assert (answer.status, answer.body) == (206, BODY[HALF:])
    assert release.bytes_sent(PAYLOAD_PATH) == SIZE


async def test_a_package_that_is_wrong_again_and_again_is_answered_once_for_each_attempt(
    release: Upstream, tmp_path: Path
) -> None:
    """With a status that ends it: 20 closed connections would be 20 tries of a machine, and as many lines."""
    hold_back = {"hold_back": 2 * SIZE}
    async with mirror_in_process(tmp_path, release.origin, cache=hold_back) as mirror:
        path = await mirror.payload()
        release.put(PAYLOAD_PATH, bytes(SIZE), sidecar=False)
        for headers, status in (
            ({}, 502),
            ({"Range": "bytes=0-"}, 502),
            ({"Range": "bytes=0-1112"}, 502),
            ({"Range": "bytes=7-"}, 416),
            ({"Range": f"bytes={SIZE - 1}-"}, 416),
        ):
            answer, after = await raw(mirror, path, headers)
            assert answer is not None, headers
            assert (answer.status, after) == (status, b""), headers
            assert "SHA-256 is" in answer.line
        assert len(release.requests(PAYLOAD_PATH, "GET")) == 3


async def test_a_defect_in_the_engine_is_a_plain_line_and_a_traceback_in_the_log(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a defect")

    path = await mirror.payload()
    monkeypatch.setattr(DiskDraft, "write", broken)
    with capture_logs() as logs:
        answer = await mirror.get(path)
    assert (answer.status, "a defect" in answer.line) == (502, False)
    assert [type(entry["exc_info"]) for entry in logs if "exc_info" in entry] == [LookupError]
    monkeypatch.undo()
    assert (await mirror.get(path)).body == BODY
