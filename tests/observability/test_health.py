"""Health is examined, not assumed; what hangs is found out, and a flood of questions costs one look."""

import asyncio
import errno
import json
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from omaha_mirror.aio.clock import DAY
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.channel import ChannelStatus, StepStatus
from omaha_mirror.config import Address
from omaha_mirror.observability import findings, health
from omaha_mirror.observability.counters import Counters
from omaha_mirror.observability.findings import clock, packages, signatures, tracks
from omaha_mirror.observability.health import DiskSpace, Examiner, Finding, Health, State, writable
from omaha_mirror.web.admin.app import AdminApp
from omaha_mirror.web.admin.overview_api import HealthApi
from omaha_mirror.web.server import Listener
from tests.support.clock import SetClock
from tests.support.disks import small_disk
from tests.support.talk import PATIENCE, ask

FINE = Finding("disk", State.OK, "there is room")


def channel(
    *steps: tuple[str, Reason], trouble: str = "", detail: str = "", answered: float = 1.0
) -> ChannelStatus:
    reply = tuple(StepStatus(version, False, 1.0, state) for version, state in steps)
    return ChannelStatus(
        "app", "amd64-usr", "stable", reply, Reason.OFFERED, detail, trouble, answered, 1.0, 1.0
    )


@asynccontextmanager
async def examined(examiner: Examiner) -> AsyncIterator[Address]:
    """The address of an admin listener that tells what an examiner finds."""
    app = AdminApp(HealthApi(examiner, Counters()).routes(), "token", [Address("127.0.0.1", 8001)])
    listener = Listener(app)
    [address] = await listener.start([Address("127.0.0.1", 0)])
    try:
        yield address
    finally:
        await listener.stop()
        await examiner.close()


# The checks


def test_a_directory_that_can_be_written_to_is_left_as_it_was(tmp_path: Path) -> None:
    assert writable("cache", tmp_path).state is State.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["gone", "a file"])
def test_a_directory_that_is_none_fails_with_its_path(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "a file":
        place.touch()
    found = writable("state", place)
    assert (found.name, found.state) == ("state", State.FAILED)
    assert str(place) in found.words


def test_a_disk_that_takes_no_byte_fails_although_files_can_be_opened(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
    try:
        found = writable("cache", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert found.state is State.FAILED
    assert "File too large" in found.words


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_degrades_as_all_that_is_there_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    found = writable("state", tmp_path)
    assert found.state is State.DEGRADED
    assert str(tmp_path) in found.words


def test_a_file_system_that_does_not_sync_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    found = writable("state", tmp_path)
    assert found.state is State.OK
    assert "power cut" in found.words


def failing(number: int) -> Callable[[int], None]:
    def fsync(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


def test_a_disk_without_inodes_degrades(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", files=1) as disk:
        found = DiskSpace(disk, lambda: 0)()
        assert (found.state, "inode" in found.words) == (State.DEGRADED, True)
        found = writable("cache", disk)
        assert found.state is State.DEGRADED


def test_what_must_stay_free_is_asked_anew_each_time(tmp_path: Path) -> None:
    least = 0
    room = DiskSpace(tmp_path, lambda: least)
    assert room.free is None
    assert room().state is State.OK
    assert room.free is not None
    assert room.free > 0
    least = 2**62
    found = room()
    assert found.state is State.DEGRADED  # all that is here is served
    assert str(least) in found.words


def test_a_disk_that_is_gone_fails(tmp_path: Path) -> None:
    assert DiskSpace(tmp_path / "gone", lambda: 0)().state is State.FAILED


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (channel(("1.0.0", Reason.OFFERED), ("2.0.0", Reason.WARMING)), State.OK, "2.0.0"),
        (channel(detail="updatesDisabled"), State.OK, "updatesDisabled"),
        (channel(), State.OK, "no update"),
        (channel(trouble="it is down", answered=0.0), State.DEGRADED, "no good answer yet"),
        (channel(("1.0.0", Reason.OFFERED), trouble="it is down"), State.DEGRADED, "it is down"),
        (channel(("1.0.0", Reason.SIDECAR_DISAGREES)), State.DEGRADED, "sidecar-disagrees"),
    ],
)
def test_a_track_degrades_and_never_fails(status: ChannelStatus, state: State, words: str) -> None:
    [found] = tracks([status], time.time())
    assert (found.name, found.state) == ("track stable amd64-usr", state)
    assert words in found.words


def test_wrong_packages_degrade_and_a_few_are_named() -> None:
    wrong = {f"package-{i}": "SHA-256 differs" for i in range(9)}
    [found] = packages(wrong)
    assert found.state is State.DEGRADED
    assert found.words.count("SHA-256 differs") == findings.NAMED
    assert "9 not offered" in found.words
    assert [f.state for f in packages({})] == [State.OK]


def test_packages_that_are_not_signed_degrade_with_what_to_do() -> None:
    [found] = signatures({f"package-{i}": "it is not signed" for i in range(9)})
    assert (found.name, found.state) == ("signatures", State.DEGRADED)
    assert found.words.count("it is not signed") == findings.NAMED
    assert "9 not offered" in found.words
    assert "add it and reload" in found.words
    assert list(signatures({})) == []


def test_damaged_files_that_cannot_be_put_aside_are_named_and_degrade() -> None:
    assert list(findings.quarantine({})) == []
    [found] = findings.quarantine({f"{i:064x}": "cannot be put aside: no" for i in range(9)})
    assert found.state is State.DEGRADED
    assert found.words.startswith("9 damaged files")
    assert found.words.count("cannot be put aside: no") == findings.NAMED


def test_the_worst_finding_counts() -> None:
    states = [State.OK, State.FAILED, State.DEGRADED]
    found = [Finding(state, state, "") for state in states]
    assert (Health(tuple(found)).state, Health(tuple(found)).ready) == (State.FAILED, False)
    assert (Health(tuple(found[::2])).state, Health(tuple(found[::2])).ready) == (
        State.DEGRADED,
        True,
    )
    assert Health(()).ready


# The examiner


class Hanging:
    """A check that waits for a gate in its worker, as a hung disk does."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.runs = 0

    def __call__(self) -> Finding:
        self.runs += 1
        self.begun.release()
        assert self.gate.wait(PATIENCE)
        return FINE


async def test_a_flood_of_questions_is_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Hanging()
    reply = 0

    def quick() -> list[Finding]:
        nonlocal reply
        reply += 1
        return []

    examiner = Examiner({"disk": check}, [quick])
    asking = [asyncio.create_task(examiner()) for _ in range(100)]
    await asyncio.to_thread(check.begun.acquire)
    check.gate.set()
    assert {found.findings for found in await asyncio.gather(*asking)} == {(FINE,)}
    assert (await examiner()).findings == (FINE,)
    assert (check.runs, reply) == (1, 1)
    monkeypatch.setattr(examiner, "_fresh_until", 0.0)
    await examiner()
    assert (check.runs, reply) == (2, 2)
    await examiner.close()


async def test_a_hung_disk_hangs_nobody_and_is_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "DEADLINE", 0.05)
    monkeypatch.setattr(health, "FRESH", 0.0)
    check = Hanging()
    place = {"cache": Path("/srv/cache")}
    examiner = Examiner({"cache": check, "state": lambda: FINE}, [], place)
    for _ in range(5):
        hung, fine = (await examiner()).findings
        assert (hung.name, hung.state, fine) == ("cache", State.DEGRADED, FINE)
        assert "/srv/cache has not answered" in hung.words
    assert check.runs == 1
    check.gate.set()
    monkeypatch.setattr(health, "DEADLINE", PATIENCE)
    while (await examiner()).findings != (FINE, FINE):
        await asyncio.to_thread(check.begun.acquire)
    await examiner.close()


async def test_who_leaves_takes_no_answer_from_others() -> None:
    check = Hanging()
    examiner = Examiner({"disk": check}, [])
    leaving = asyncio.create_task(examiner())
    await asyncio.to_thread(check.begun.acquire)
    staying = asyncio.create_task(examiner())
    leaving.cancel()
    await asyncio.wait([leaving])
    check.gate.set()
    assert (await staying).findings == (FINE,)
    assert (leaving.cancelled(), check.runs) == (True, 1)
    await examiner.close()


async def test_closing_waits_for_no_hung_disk() -> None:
    check = Hanging()
    examiner = Examiner({"disk": check}, [])
    asking = asyncio.create_task(examiner())
    await asyncio.to_thread(check.begun.acquire)
    await examiner.close()
    assert (await asyncio.wait([asking], timeout=PATIENCE))[0]
    check.gate.set()


# Over the network


async def test_readyz_says_what_is_wrong(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.touch()
    checks: dict[str, Callable[[], Finding]] = {
        "cache": partial(writable, "cache", place),
        "disk": DiskSpace(tmp_path, lambda: 0),
    }
    examiner = Examiner(checks, [lambda: tracks([channel(trouble="it is down")], time.time())])
    async with examined(examiner) as address:
        answer = await ask(address, "GET", "/readyz", {"Host": "localhost"})
        reply = json.loads(answer.body)
    assert (answer.status, reply["ready"], reply["state"]) == (503, False, "failed")
    states = {check["name"]: check["state"] for check in reply["checks"]}
    assert states == {"cache": "failed", "disk": "ok", "track stable amd64-usr": "degraded"}
    assert str(place) in reply["checks"][0]["words"]


async def test_upstream_down_is_degraded_and_ready() -> None:
    examiner = Examiner({}, [lambda: tracks([channel(trouble="it is down")], time.time())])
    async with examined(examiner) as address:
        answer = await ask(address, "GET", "/readyz", {"Host": "localhost"})
    assert (answer.status, json.loads(answer.body)["state"]) == (200, "degraded")


async def test_a_scrape_examines_first(tmp_path: Path) -> None:
    room = DiskSpace(tmp_path, lambda: 0)
    async with examined(Examiner({"disk": room}, [])) as address:
        answer = await ask(address, "GET", "/metrics", {"Host": "localhost"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nomaha_mirror_pings_total 0.0\n" in answer.body
    assert room.free is not None


@pytest.mark.parametrize(
    ("set_clock", "state", "words"),
    [
        (SetClock(synchronised=True), State.OK, "is right"),
        (SetClock(), State.OK, "nothing has confirmed it yet: until the time is known no delay"),
        (SetClock(-56 * 365 * DAY), State.OK, "before this program was made"),
    ],
)
def test_a_clock_that_is_not_sure_is_a_note(set_clock: SetClock, state: State, words: str) -> None:
    [found] = clock(set_clock)
    assert (found.name, found.state) == ("clock", state)
    assert words in found.words


def test_a_clock_that_upstream_contradicts_degrades() -> None:
    contradicted = SetClock(9 * 365 * DAY)
    contradicted.record_upstream_date(contradicted.right())
    [found] = clock(contradicted)
    assert found.state is State.DEGRADED
    assert "3285 days, 0:00:00 ahead of upstream's" in found.words
