"""The end of a listener while requests wait for a package of which no byte comes: they do not hold it up."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from omaha_mirror.web import server
from tests.support.mirror import PAYLOAD_PATH, MirrorProcess, mirror_in_process, omaha
from tests.support.talk import Talk, dial, request
from tests.support.upstream import Upstream
from tests.web.conftest import BODY

HOUR = 3600.0
SIDECAR = f"{PAYLOAD_PATH}.sha256"
CHECK = request("POST", "/v1/update/", body=omaha("request_check_first"))


@pytest.fixture(autouse=True)
def endless_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that waits for anybody's answer does not end within a test."""
    monkeypatch.setattr(server, "GRACE", HOUR)


async def ends(talk: Talk, status: int | None) -> None:
    """The request is answered with this status, or closed without an answer."""
    if status is None:
        assert await talk.rest() == b""
    else:
        assert (await talk.answer()).status == status
        assert await talk.rest() == b""


@pytest.mark.parametrize(
    ("field", "status"), [(None, 502), ("bytes=0-", 502), ("bytes=1000-", None)]
)
@pytest.mark.parametrize(("silent", "at"), [(PAYLOAD_PATH, 0), (SIDECAR, None)])
async def test_who_waits_for_a_silent_upstream_is_let_go(
    release: Upstream, tmp_path: Path, silent: str, at: int | None, field: str | None, status: int
) -> None:
    gate = release.hold(silent, at=at)
    async with mirror_in_process(tmp_path, release.origin) as mirror, dial(mirror.address) as talk:
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": field} if field else {}))
        await gate.reached()
        await mirror.listener.stop()
        await ends(talk, status)


async def test_a_range_that_waits_for_the_proof_is_let_go(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=len(BODY) - 1)
    async with mirror_in_process(tmp_path, release.origin) as mirror, dial(mirror.address) as talk:
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": "bytes=0-999"}))
        await gate.reached()
        await mirror.listener.stop()
        await ends(talk, 502)


async def test_an_answer_under_way_is_ended_when_its_bytes_come(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=len(BODY) - 1)
    small = {"hold_back": 1000}
    async with (
        mirror_in_process(tmp_path, release.origin, cache=small) as mirror,
        dial(mirror.address) as reading,
        dial(mirror.address) as waiting,
    ):
        await reading.send(request("GET", PAYLOAD_PATH))
        assert (await reading.head()).length == len(BODY)
        await waiting.send(request("GET", PAYLOAD_PATH, {"Range": "bytes=0-999"}))
        await mirror.until(mirror.opened(2))
        stopping = asyncio.create_task(mirror.listener.stop())
        await ends(waiting, 502)
        assert not stopping.done()
        gate.open()
        assert await reading.rest() == BODY
        await stopping


async def test_a_process_ends_although_nothing_will_ever_come(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=0)
    mirror = MirrorProcess(tmp_path, release.origin)
    mirror.prelude = f"from omaha_mirror.web import server; server.GRACE = {HOUR}"
    async with mirror, dial(mirror.address) as talk:
        await talk.send(request("GET", PAYLOAD_PATH))
        await gate.reached()
        assert await mirror.terminate() == 0
        await ends(talk, 502)


async def test_who_is_heard_after_the_signal_begins_nothing_that_is_not_here(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=0)
    async with (
        mirror_in_process(tmp_path, release.origin) as mirror,
        dial(mirror.address) as early,
        dial(mirror.address) as late,
    ):
        await early.send(request("GET", PAYLOAD_PATH))
        await gate.reached()
        await mirror.round_trips(1)  # so the late one was let in
        stopping = asyncio.create_task(mirror.listener.stop())
        assert (await early.answer()).status == 502
        await late.send(request("GET", PAYLOAD_PATH))
        await ends(late, 502)
        await stopping


async def test_a_request_whose_end_comes_after_the_signal_is_answered(
    release: Upstream, tmp_path: Path
) -> None:
    async with (
        mirror_in_process(tmp_path, release.origin) as mirror,
        dial(mirror.address) as idle,
        dial(mirror.address) as slow,
    ):
        await idle.send(request("GET", "/healthz"))
        assert (await idle.answer()).status == 200
        await slow.send(CHECK[:-9])
        await mirror.round_trips(1)
        stopping = asyncio.create_task(mirror.listener.stop())
        assert await idle.rest() == b""
        await slow.send(CHECK[-9:])
        await ends(slow, 200)
        await stopping


async def test_one_whose_end_does_not_come_is_no_defect(
    release: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRACE", 0.1)
    async with mirror_in_process(tmp_path, release.origin) as mirror, dial(mirror.address) as talk:
        await talk.send(CHECK[:-9])
        await mirror.round_trips(1)
        with capture_logs() as lines:
            await mirror.listener.stop()
        await ends(talk, None)
        assert [line["event"] for line in lines] == []
