"""A simulated fleet is held to what a server hears of it."""

import asyncio
import hashlib
import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner, Result

from omaha_mirror.cli.main import cli
from omaha_mirror.client import simulated
from omaha_mirror.client.simulated import (
    CONNECTIONS,
    DOWNLOADS,
    FAULTS,
    GIVE_UP,
    KINDS,
    Fleet,
    Latencies,
    NoAnswer,
    Plan,
    State,
    Tally,
)
from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    Action,
    AppRequest,
    AppResponse,
    AppStatus,
    Client,
    Digest,
    ErrorCode,
    Machine,
    Manifest,
    Package,
    Response,
    UpdateCheck,
    UpdateStatus,
    Url,
    describe_error,
    parse_request,
    serialise_request,
    serialise_response,
)
from tests.support.talk import PATIENCE
from tests.support.threaded_upstream import ThreadedUpstream
from tests.support.upstream import Corrupt, Drop, Hangup, Status, Upstream
from tests.support.wire import Connection, Request

UPDATE = "/v1/update/"
FILE = "/files/update.gz"
STEPS = ("3510.2.0", "3602.2.0", "3815.2.1")
OLD, FLOOR, NEW = STEPS
PAYLOAD = random.Random(1).randbytes(300_000)
SHA256 = Digest("sha256", hashlib.sha256(PAYLOAD).digest())


def policy(origin: str, request: Request) -> bytes:
    """Each version is led to the next one."""
    [app] = parse_request(request.body).apps
    asked = UpdateCheck(status=UpdateStatus.NO_UPDATE)
    if app.version != NEW:
        package = Package(name="update.gz", size=len(PAYLOAD), hash_sha256=SHA256, required=True)
        manifest = Manifest(
            version=dict(pairwise(STEPS))[app.version],
            packages=(package,),
            actions=(Action(event="postinstall", sha256=SHA256),),
        )
        urls = (Url(codebase=f"{origin}/files/"),)
        asked = UpdateCheck(status=UpdateStatus.OK, urls=urls, manifests=(manifest,))
    told = AppResponse(
        appid=FLATCAR_APP_ID,
        status=AppStatus.OK,
        update_check=asked if app.update_check is not None else None,
    )
    return serialise_response(Response(server="test", apps=(told,)))


def publish(server: Upstream) -> None:
    origin = server.origin
    server.answer(UPDATE, lambda request: policy(origin, request))
    server.put(FILE, PAYLOAD)


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "PAUSE", 0.0)


def plan(origin: str, **changes: Any) -> Plan:
    usual: dict[str, Any] = {
        "server": f"{origin}{UPDATE}",
        "machines": 20,
        "over": 0.02,
        "track": "stable",
        "versions": {FLOOR: 1.0},
        "oems": {"": 1.0},
    }
    return Plan(**{**usual, **changes})


async def run(server: Upstream, **changes: Any) -> Tally:
    fleet = Fleet(plan(server.origin, **changes))
    await fleet.run()
    return fleet.tally


def became(tally: Tally) -> Counter[State]:
    """The machines by state, without the states that none is in."""
    return +tally.states


async def until(holds: Callable[[], bool]) -> None:
    """Let everything else go on until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 (the fleet has no event for it)
            await asyncio.sleep(0)


def asked(server: Upstream) -> list[AppRequest]:
    return [parse_request(r.body).apps[0] for r in server.requests(UPDATE)]


def events(apps: Iterable[AppRequest]) -> list[tuple[int | None, int | None]]:
    return [(event.eventtype, event.eventresult) for app in apps for event in app.events]


def failures(server: Upstream) -> list[int]:
    codes = [e.errorcode for app in asked(server) for e in app.events if e.eventresult == 0]
    return [describe_error(code).base for code in codes if code is not None]


# What a machine says


async def test_an_update_is_told_in_the_order_of_update_engine(server: Upstream) -> None:
    tally = await run(server, machines=1)
    first, started, finished, applied, held, again = asked(server)
    assert events([started, finished, applied, held, again]) == [(13, 1), (14, 1), (3, 1), (3, 2)]
    assert [app.update_check is not None for app in asked(server)] == [True, *[False] * 4, True]
    assert held.ping is not None
    assert (first.version, held.version, again.version) == (FLOOR, FLOOR, NEW)
    assert again.events[0].previousversion == FLOOR
    assert again.bootid not in ("", first.bootid)
    assert (tally.requests, tally.offers, became(tally)) == (6, 1, {State.UPDATED: 1})


async def test_a_machine_is_led_over_several_versions(server: Upstream) -> None:
    await run(server, machines=1, versions={OLD: 1.0})
    assert [app.version for app in asked(server) if app.update_check] == [OLD, FLOOR, NEW]


async def test_a_machine_that_is_offered_nothing_asks_once(server: Upstream) -> None:
    tally = await run(server, versions={NEW: 1.0})
    assert len(server.log) == tally.requests == tally.latencies.count == 20
    assert became(tally) == {State.NO_UPDATE: 20}


async def test_a_server_that_offers_for_ever_does_not_hold_a_machine_for_ever(
    server: Upstream,
) -> None:
    body = policy(server.origin, server_request(OLD))
    server.answer(UPDATE, lambda _: body)
    tally = await run(server, machines=1, over=0.0)
    assert tally.offers == simulated.STEPS


def server_request(version: str) -> Request:
    """A check as a server gets it."""
    client = Client(Machine(version=version, machineid="0" * 32))
    return Request("POST", UPDATE, {}, serialise_request(client.check()))


# Who the machines are


async def test_each_machine_is_another_one_and_the_same_in_each_simulation(
    server: Upstream,
) -> None:
    mix = {"versions": {NEW: 1.0, "3815.3.0": 1.0}, "oems": {"azure": 1.0, "": 1.0}}
    server.answer(UPDATE, lambda _: policy(server.origin, server_request(NEW)))
    runs = []
    for _ in range(2):
        server.log.clear()
        await run(server, **mix, track="lts")
        runs.append({(a.machineid, a.machinealias, a.version, a.oem) for a in asked(server)})
        assert {app.track for app in asked(server)} == {"lts"}
    assert runs[0] == runs[1]
    assert len({machineid for machineid, *_ in runs[0]}) == 20
    assert {alias for _, alias, *_ in runs[0]} == {f"simulated-{n}" for n in range(20)}
    assert {(v, o) for *_, v, o in runs[0]} == {
        (v, o) for v in mix["versions"] for o in mix["oems"]
    }


def test_a_mix_is_kept_to() -> None:
    shares = plan("", versions={"a": 70.0, "b": 30.0, "c": 0.0})
    found = Counter(shares.machine(number).version for number in range(2000))
    assert found["a"] + found["b"] == 2000
    assert 0.65 < found["a"] / 2000 < 0.75


# What fails


async def test_updates_fail_as_often_as_told_and_are_reported(server: Upstream) -> None:
    tally = await run(server, machines=100, errors=0.5)
    bad = tally.states[State.FAILED] + tally.states[State.ROLLED_BACK]
    assert 30 < bad < 70
    assert tally.states[State.UPDATED] == 100 - bad
    assert Counter(failures(server)).total() == bad
    assert set(failures(server)) == set(FAULTS)
    assert failures(server).count(ErrorCode.ROLLBACK) == tally.states[State.ROLLED_BACK]
    assert not tally.errors


async def test_a_machine_rolls_back_after_the_reboot(
    server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "FAULTS", (ErrorCode.ROLLBACK,))
    tally = await run(server, machines=1, errors=1.0)
    *_, held, again = asked(server)
    assert held.ping is not None
    assert again.version == FLOOR
    assert [event.errorcode for event in again.events] == [ErrorCode.ROLLBACK]
    assert became(tally) == {State.ROLLED_BACK: 1}


ANSWERS: dict[bytes, int] = {
    b"<html>": ErrorCode.OMAHA_REQUEST_XML_PARSE_ERROR,
    b"": ErrorCode.OMAHA_REQUEST_EMPTY_RESPONSE_ERROR,
}


@pytest.mark.parametrize("body", ANSWERS)
async def test_an_answer_that_no_machine_can_use_is_counted_and_reported(
    server: Upstream, body: bytes
) -> None:
    server.answer(UPDATE, lambda _: body)
    tally = await run(server, machines=1)
    assert became(tally) == {State.UNANSWERED: 1}
    assert tally.errors.total() == 1
    assert failures(server) == [ANSWERS[body]]


async def test_an_error_status_is_counted(server: Upstream) -> None:
    server.fault(UPDATE, Status(503))
    tally = await run(server, machines=2)
    assert became(tally) == {State.UNANSWERED: 2}
    assert tally.errors == {"HTTP 503": 4}  # two checks, and what the machines say of them
    assert failures(server) == [2503] * 2


async def test_a_connection_that_breaks_costs_the_machine_that_asked(server: Upstream) -> None:
    server.fault(UPDATE, Hangup(times=5))
    tally = await run(server, versions={NEW: 1.0})
    assert became(tally) == {State.UNANSWERED: 5, State.NO_UPDATE: 15}
    assert tally.errors == {"the connection was closed": 5}


async def test_a_simulation_ends_where_nobody_answers(server: Upstream) -> None:
    await server.refuse()
    fleet = Fleet(plan(server.origin, machines=1000))
    with pytest.raises(NoAnswer, match="refused"):
        await fleet.run()
    assert GIVE_UP <= fleet.tally.requests <= GIVE_UP + CONNECTIONS
    await server.listen()


def test_the_errors_that_are_told_apart_are_bounded() -> None:
    tally = Tally()
    for number in range(1000):
        tally.failed(f"error {number}")
        tally.failed("error 0")
    assert len(tally.errors) == KINDS + 1
    assert tally.errors["error 0"] == 1001
    assert tally.errors.total() == 2000


# Load


@pytest.fixture
def connections(server: Upstream, monkeypatch: pytest.MonkeyPatch) -> set[Connection]:
    """The connections that requests came over."""
    used = set()
    serve = server._serve

    async def noted(connection: Connection) -> None:
        used.add(connection)
        await serve(connection)

    monkeypatch.setattr(server, "_serve", noted)
    return used


async def test_machines_come_in_time_however_slow_the_server_is_over_few_connections(
    server: Upstream, connections: set[Connection]
) -> None:
    gate = server.hold(UPDATE)
    fleet = Fleet(plan(server.origin, machines=200, versions={NEW: 1.0}))
    running = asyncio.create_task(fleet.run())
    await server.until(lambda: len(server.log) == CONNECTIONS)
    await until(lambda: fleet.tally.machines == 200)
    assert became(fleet.tally) == {State.UNDER_WAY: 200}
    gate.open()
    await running
    assert became(fleet.tally) == {State.NO_UPDATE: 200}
    assert len(server.log) == 200
    assert len(connections) == CONNECTIONS


async def test_the_wait_for_a_connection_counts_as_latency(server: Upstream) -> None:
    gate = server.hold(UPDATE)
    fleet = Fleet(plan(server.origin, machines=2 * CONNECTIONS, versions={NEW: 1.0}))
    running = asyncio.create_task(fleet.run())
    await until(lambda: fleet.tally.machines == 2 * CONNECTIONS)
    clock = asyncio.get_running_loop().time
    since = clock()
    await until(lambda: clock() >= since + 0.1)
    gate.open()
    await running
    assert fleet.tally.latencies.at(0.0) > 0.098


def test_latencies_are_told_to_a_percent() -> None:
    latencies = Latencies()
    assert (latencies.at(0.5), latencies.longest, latencies.count) == (0.0, 0.0, 0)
    for number in range(1, 1001):
        latencies.add(number / 1000)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert latencies.at(share) == pytest.approx(share, rel=0.011)
    assert (latencies.at(1.0), latencies.longest, latencies.count) == (1.0, 1.0, 1000)


# Downloads


@pytest.mark.parametrize(("download", "count"), [("none", 0), ("first", 1), ("all", 20)])
async def test_payloads_are_fetched_as_told(server: Upstream, download: str, count: int) -> None:
    tally = await run(server, download=download)
    assert len(server.requests(FILE)) == tally.downloads == count
    assert tally.bytes == count * len(PAYLOAD)
    assert tally.states[State.UPDATED] == 20


async def test_few_downloads_run_at_once(server: Upstream) -> None:
    gate = server.hold(FILE, at=1000)
    fleet = Fleet(plan(server.origin, download="all"))
    running = asyncio.create_task(fleet.run())
    await server.until(lambda: len(server.requests(UPDATE)) == 40)  # each has begun to download
    await server.until(lambda: len(server.requests(FILE)) == DOWNLOADS)
    gate.open()
    await running
    assert fleet.tally.downloads == 20


async def test_a_download_that_was_cut_goes_on_where_it_was(server: Upstream) -> None:
    server.fault(FILE, Drop(at=100_000, times=1))
    tally = await run(server, download="first")
    first, second = server.requests(FILE)
    assert second.range == f"bytes={first.sent}-"
    assert (tally.downloads, tally.states[State.UPDATED]) == (1, 20)


async def test_wrong_bytes_fail_the_update(server: Upstream) -> None:
    server.fault(FILE, Corrupt(at=5))
    tally = await run(server, machines=3, download="all")
    assert tally.states[State.FAILED] == tally.errors["a download failed"] == 3
    assert failures(server) == [ErrorCode.DOWNLOAD_TRANSFER_ERROR] * 3


# The command


def simulate(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["simulate", "--quiet", "--over", "0s", *args])
    assert isinstance(result.exception, SystemExit | None)
    return result


def test_the_figures_in_words(process_server: ThreadedUpstream) -> None:
    done = simulate("--server", process_server.origin, "--machines", "3", "--version-mix", FLOOR)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.sub(r"[\d.]+ (m?s)\b", r"0 \1", done.stdout) == (
        "machines   3: 3 updated\n"
        "requests   18 in 0 s, 18 answered; 3 offers\n"
        "latency    p50 0 ms, p95 0 ms, p99 0 ms, longest 0 ms\n"
    )


def test_the_figures_as_json(process_server: ThreadedUpstream) -> None:
    mix = ("--version-mix", f"{FLOOR}=1,{NEW}=0", "--oem-mix", "azure=3,none=1", "--errors", "0%")
    done = simulate(
        *("--server", process_server.origin, "--machines", "3", "--download", "first", "--json"),
        *mix,
    )
    told = json.loads(done.stdout)
    assert sorted(told.pop("latency")) == ["max", "p50", "p95", "p99"]
    assert told.pop("seconds") > 0
    assert told.pop("behind") >= 0
    assert told == {
        "server": f"{process_server.origin}{UPDATE}",
        "machines": 3,
        "requests": 18,
        "answers": 18,
        "offers": 3,
        "states": {state: 3 if state is State.UPDATED else 0 for state in State},
        "downloads": {"whole": 1, "bytes": len(PAYLOAD)},
        "errors": {},
    }


def test_errors_are_told_and_end_with_1(process_server: ThreadedUpstream) -> None:
    process_server.fault(UPDATE, Status(500))
    done = simulate("--server", process_server.origin, "--machines", "3")
    assert done.exit_code == 1
    assert "3 unanswered" in done.stdout
    assert "error      6 times: HTTP 500" in done.stdout


def test_nobody_there_ends_with_5_and_a_line() -> None:
    done = simulate("--server", "http://127.0.0.1:1", "--machines", "100")
    assert (done.exit_code, done.stdout) == (5, "")
    assert re.fullmatch(r"Error: no answer from http://127\.0\.0\.1:1/.*\?\n", done.stderr)


def test_another_computer_is_asked_only_after_a_yes() -> None:
    done = CliRunner().invoke(
        cli, ["simulate", "--server", "http://mirror.example:8000"], input="n\n"
    )
    assert done.exit_code == 1
    assert "mirror.example:8000/v1/update/ is not on this computer" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--server", "ftp://x", "ftp"),
        ("--machines", "0", "range"),
        ("--over", "soon", "duration"),
        ("--errors", "101%", "share"),
        ("--errors", "few", "share"),
        ("--track", "a b", "track"),
        ("--version-mix", "1.0=x", "WEIGHT"),
        ("--version-mix", "", "WEIGHT"),
        ("--oem-mix", "a=0,b=0", "above 0"),
        ("--download", "some", "first"),
    ],
)
def test_a_wrong_option_is_told(option: str, value: str, words: str) -> None:
    done = CliRunner().invoke(cli, ["simulate", option, value])
    assert done.exit_code == 2
    assert words in done.stderr


def test_ctrl_c_ends_it_with_130_and_the_figures_so_far(process_server: ThreadedUpstream) -> None:
    gate = process_server.hold(UPDATE)
    # What started this test may have let it ignore SIGINT, as shells do for jobs in background.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from omaha_mirror.cli.main import main; main()"
    )
    args = (
        "simulate",
        "--server",
        process_server.origin,
        "--machines",
        "2",
        "--over",
        "0s",
        "--json",
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process_server.until(lambda server: len(server.requests(UPDATE)) == 2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    gate.open()
    assert (process.returncode, stderr) == (130, b"")
    assert json.loads(stdout)["states"]["under way"] == 2
