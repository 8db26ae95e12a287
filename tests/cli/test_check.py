import asyncio
import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from pytest_aiohttp.plugin import AiohttpServer

from omaha_mirror.cli.check import CheckResult, run_check
from omaha_mirror.cli.main import cli
from omaha_mirror.client.connections import ConnectionFailed, exchange, read
from omaha_mirror.client.download import Unreachable, UpdateFailed, WrongBytes
from omaha_mirror.config import Address, CacheConfig, Config, Pin, UpstreamConfig
from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    Action,
    AppResponse,
    AppStatus,
    Digest,
    ErrorCode,
    ErrorFlag,
    Machine,
    Manifest,
    NoUpdate,
    Offer,
    Package,
    Response,
    UpdateCheck,
    UpdateStatus,
    Url,
    parse_request,
    serialise_response,
)
from omaha_mirror.service import Service
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener
from tests.support.threaded_upstream import ThreadedUpstream
from tests.support.upstream import (
    Corrupt,
    Encoding,
    Fault,
    Fin,
    NoLength,
    NoRange,
    Redirect,
    Status,
    Upstream,
    WrongRange,
)

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
UPDATE = "/v1/update/"
PAYLOAD = os.urandom(300_000)
OEM = os.urandom(5_000)
EXTENSION = os.urandom(7_000)
RELEASE = {
    "update.gz": PAYLOAD,
    "oem-azure.gz": OEM,
    "oem-qemu.gz": b"of another OEM",
    "flatcar-zfs.gz": EXTENSION,
}
MACHINE = Machine(version="3815.2.0", machineid="0123456789abcdef" * 2, oem="azure")


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).digest())


def package(name: str, data: bytes) -> Package:
    return Package(name=name, size=len(data), hash_sha256=sha256(data), required=True)


def answer(check: UpdateCheck, status: str = AppStatus.OK) -> bytes:
    app = AppResponse(appid=FLATCAR_APP_ID, status=status, update_check=check)
    return serialise_response(Response(server="test", apps=(app,)))


def offer(origin: str, release: dict[str, bytes] = RELEASE) -> bytes:
    packages = tuple(package(name, data) for name, data in release.items())
    action = Action(event="postinstall", sha256=sha256(release["update.gz"]))
    manifest = Manifest(version="3815.2.1", packages=packages, actions=(action,))
    return answer(
        UpdateCheck(
            status=UpdateStatus.OK,
            urls=(Url(codebase=f"{origin}/files/"),),
            manifests=(manifest,),
        )
    )


NO_UPDATE = answer(UpdateCheck(status=UpdateStatus.NO_UPDATE))


def publish(server: Upstream) -> None:
    """Make the scripted server an update server that offers `RELEASE`."""
    body = offer(server.origin)
    server.answer(UPDATE, lambda _: body)
    for name, data in RELEASE.items():
        server.put(f"/files/{name}", data, sidecar=False)


def told_events(server: Upstream) -> list[tuple[int | None, int | None, int | None]]:
    """What the machine reported after its check."""
    apps = [app for r in server.requests(UPDATE) for app in parse_request(r.body).apps]
    return [
        (event.eventtype, event.eventresult, event.errorcode)
        for app in apps
        if app.update_check is None
        for event in app.events
    ]


def failed(code: ErrorCode) -> tuple[int, int, int]:
    return 3, 0, code | ErrorFlag.TEST_OMAHA_URL


async def run(server: Upstream, directory: Path | None = None) -> CheckResult:
    return await run_check(MACHINE, server.url(UPDATE), directory, silent=True, pause=0)


def kept(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def ranges(server: Upstream, name: str) -> list[str | None]:
    return [request.range for request in server.requests(f"/files/{name}")]


async def test_an_offer_is_read_and_nothing_is_fetched_or_reported(server: Upstream) -> None:
    result = await run(server)
    assert result.error is None
    assert result.answer is not None
    assert isinstance(result.answer.outcome, Offer)
    assert result.answer.outcome.version == "3815.2.1"
    assert [request.path for request in server.log] == [UPDATE]


async def test_the_request_has_the_header_fields_of_update_engine(server: Upstream) -> None:
    await run(server)
    (request,) = server.log
    assert set(request.headers) == {"host", "accept", "content-type", "content-length"}
    assert (request.headers["accept"], request.headers["content-type"]) == ("*/*", "text/xml")


async def test_a_download_is_told_in_the_order_of_update_engine(
    server: Upstream, tmp_path: Path
) -> None:
    result = await run(server, tmp_path)
    assert result.error is None
    assert [(r.method, r.path.rpartition("/")[2]) for r in server.log] == [
        ("POST", ""),
        ("POST", ""),
        ("GET", "update.gz"),
        ("POST", ""),
        ("GET", "oem-azure.gz"),
        ("GET", "flatcar-zfs.gz"),
        ("POST", ""),
    ]
    assert told_events(server) == [(13, 1, None), (14, 1, None), (3, 1, None)]
    assert kept(tmp_path) == {
        "update.gz": PAYLOAD,
        "oem-azure.gz": OEM,
        "flatcar-zfs.gz": EXTENSION,
    }
    assert [d.name for d in result.downloads] == ["update.gz", "oem-azure.gz", "flatcar-zfs.gz"]


async def test_packages_are_asked_for_without_a_coding(server: Upstream, tmp_path: Path) -> None:
    await run(server, tmp_path)
    for request in server.log:
        assert "accept-encoding" not in request.headers


async def test_no_update_is_no_error(server: Upstream, tmp_path: Path) -> None:
    server.answer(UPDATE, lambda _: NO_UPDATE)
    result = await run(server, tmp_path)
    assert result.error is None
    assert result.answer is not None
    assert result.answer.outcome == NoUpdate()
    assert len(server.log) == 1


async def test_a_cut_payload_goes_on_where_it_was_cut(server: Upstream, tmp_path: Path) -> None:
    server.fault("/files/update.gz", Fin(at=70_000, times=1))
    server.fault("/files/update.gz", Fin(at=200_000, times=1))
    result = await run(server, tmp_path)
    assert result.error is None
    assert ranges(server, "update.gz") == [None, "bytes=70000-", "bytes=200000-"]
    assert (tmp_path / "update.gz").read_bytes() == PAYLOAD
    assert result.downloads[0].requests == 3


async def test_a_payload_is_taken_up_twenty_times_and_no_more(
    server: Upstream, tmp_path: Path
) -> None:
    server.fault("/files/update.gz", Fin(at=70_000))
    result = await run(server, tmp_path)
    assert result.error is not None
    assert type(result.error) is UpdateFailed
    assert "after 20 tries" in str(result.error)
    assert len(ranges(server, "update.gz")) == 21
    assert told_events(server) == [(13, 1, None), failed(ErrorCode.DOWNLOAD_TRANSFER_ERROR)]
    assert kept(tmp_path) == {}


async def test_an_error_status_ends_a_download_that_was_cut(
    server: Upstream, tmp_path: Path
) -> None:
    path = "/files/update.gz"
    gate = server.hold(path, at=70_000)
    running = asyncio.create_task(run(server, tmp_path))
    await gate.reached()
    server.fault(path, Fin(at=70_000))
    server.remove(path)
    gate.open()
    result = await running
    assert result.error is not None
    assert "answered HTTP 404" in str(result.error)
    assert ranges(server, "update.gz") == [None, "bytes=70000-"]


@pytest.mark.parametrize("fault", [NoRange(), WrongRange(by=1)])
async def test_other_bytes_than_the_rest_asked_for_are_refused(
    server: Upstream, tmp_path: Path, fault: Fault
) -> None:
    server.fault("/files/update.gz", Fin(at=70_000, times=1))
    server.fault("/files/update.gz", fault)
    result = await run(server, tmp_path)
    assert result.error is not None
    assert "update_engine would append them" in str(result.error)
    assert result.error.errorcode == ErrorCode.DOWNLOAD_OPERATION_HASH_MISMATCH


@pytest.mark.parametrize("at", [0, 150_000, len(PAYLOAD) - 1])
async def test_a_flipped_byte_leaves_no_file(server: Upstream, tmp_path: Path, at: int) -> None:
    server.fault("/files/update.gz", Corrupt(at=at))
    result = await run(server, tmp_path)
    assert result.error is not None
    assert isinstance(result.error, WrongBytes)
    assert kept(tmp_path) == {}
    assert told_events(server) == [(13, 1, None), failed(ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR)]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", [PAYLOAD + b"x", PAYLOAD[:-1]])
async def test_a_payload_of_another_size_is_refused(
    server: Upstream, tmp_path: Path, body: bytes, chunked: bool
) -> None:
    server.put("/files/update.gz", body, sidecar=False)
    if chunked:
        server.fault("/files/update.gz", NoLength())
    result = await run(server, tmp_path)
    assert result.error is not None
    assert result.error.errorcode == ErrorCode.PAYLOAD_SIZE_MISMATCH_ERROR
    assert kept(tmp_path) == {}
    assert len(ranges(server, "update.gz")) == 1


@pytest.mark.parametrize("faults", [[Fin(at=0)], [NoLength(), Fin(at=70_000)]])
async def test_what_update_engine_takes_for_the_whole_is_not_taken_up_again(
    server: Upstream, tmp_path: Path, faults: list[Fault]
) -> None:
    for fault in faults:
        server.fault("/files/update.gz", fault)
    result = await run(server, tmp_path)
    assert result.error is not None
    assert "would take that for the whole" in str(result.error)
    assert len(ranges(server, "update.gz")) == 1


async def test_a_coded_payload_is_refused(server: Upstream, tmp_path: Path) -> None:
    server.fault("/files/update.gz", Encoding("gzip"))
    result = await run(server, tmp_path)
    assert result.error is not None
    assert "Content-Encoding 'gzip'" in str(result.error)


async def test_a_redirect_is_followed(server: Upstream, tmp_path: Path) -> None:
    server.put("/elsewhere", PAYLOAD, sidecar=False)
    server.fault("/files/update.gz", Redirect(location=server.url("/elsewhere")))
    assert (await run(server, tmp_path)).error is None
    assert (tmp_path / "update.gz").read_bytes() == PAYLOAD


async def test_a_redirect_from_http_to_https_is_refused(
    server: Upstream, aiohttp_server: AiohttpServer
) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(CERTIFICATES / "localhost.pem")
    trust = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))
    secure = await aiohttp_server(app, ssl=ours)
    there = f"https://localhost:{secure.port}/"
    async with session:
        async with exchange(session, "GET", there) as response:
            assert await read(response) == b"hello"
        server.fault("/files/update.gz", Redirect(location=there))
        with pytest.raises(ConnectionFailed, match="from http to https"):
            async with exchange(session, "GET", server.url("/files/update.gz")):
                pass


async def test_a_payload_server_that_is_gone_is_unreachable(
    server: Upstream, tmp_path: Path
) -> None:
    server.answer(UPDATE, lambda _: offer("http://127.0.0.1:1"))
    result = await run(server, tmp_path)
    assert result.error is not None
    assert isinstance(result.error, Unreachable)
    assert "Connection refused" in str(result.error)


async def test_a_cut_extension_begins_again(server: Upstream, tmp_path: Path) -> None:
    server.fault("/files/oem-azure.gz", Fin(at=2_000, times=1))
    result = await run(server, tmp_path)
    assert result.error is None
    assert ranges(server, "oem-azure.gz") == [None, None]
    assert (tmp_path / "oem-azure.gz").read_bytes() == OEM


async def test_a_wrong_extension_fails_the_postinstall_step(
    server: Upstream, tmp_path: Path
) -> None:
    server.fault("/files/oem-azure.gz", Corrupt(at=2_000))
    result = await run(server, tmp_path)
    assert result.error is not None
    assert isinstance(result.error, WrongBytes)
    assert set(kept(tmp_path)) == {"update.gz"}
    assert [d.name for d in result.downloads] == ["update.gz"]
    events = [(13, 1, None), (14, 1, None), failed(ErrorCode.POSTINSTALL_RUNNER_ERROR)]
    assert told_events(server) == events


async def test_a_cancelled_download_leaves_nothing(server: Upstream, tmp_path: Path) -> None:
    gate = server.hold("/files/update.gz", at=70_000)
    running = asyncio.create_task(run(server, tmp_path))
    await gate.reached()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert kept(tmp_path) == {}


@pytest.mark.parametrize("taken", ["update.gz", "update.gz.part"])
async def test_a_disk_that_refuses_is_told(server: Upstream, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).mkdir()
    result = await run(server, tmp_path)
    assert result.error is not None
    assert result.error.errorcode == ErrorCode.DOWNLOAD_WRITE_ERROR
    assert os.listdir(tmp_path) == [taken]


def _with_base64_digests(origin: str) -> bytes:
    """What go-omaha's serve-package writes."""
    text = offer(origin).decode()
    right = sha256(PAYLOAD)
    return text.replace(f'hash_sha256="{right.hex}"', f'hash_sha256="{right.base64}"').encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the answer was empty"),
        (b"<html>It works!", "XML"),
        (b"x" * 1_048_577, "is it an update server"),
        (answer(UpdateCheck(status="error-internal")), "error-internal"),
        (_with_base64_digests("http://127.0.0.1"), "hash_sha256"),
    ],
)
async def test_an_answer_that_a_machine_would_refuse_is_a_failure(
    server: Upstream, body: bytes, why: str
) -> None:
    server.answer(UPDATE, lambda _: body)
    result = await run(server)
    assert result.answer is None
    assert result.error is not None
    assert type(result.error) is UpdateFailed
    assert why in str(result.error)


async def test_an_error_status_of_the_update_server_is_a_failure(server: Upstream) -> None:
    server.fault(UPDATE, Status(503))
    result = await run(server)
    assert result.error is not None
    assert (type(result.error), result.error.errorcode) == (UpdateFailed, 2503)


async def test_no_server_is_unreachable(server: Upstream) -> None:
    await server.refuse()
    result = await run(server)
    assert result.error is not None
    assert isinstance(result.error, Unreachable)
    assert "Connection refused" in str(result.error)
    await server.listen()


# Through a mirror


@pytest.fixture
async def mirror(upstream: Upstream, tmp_path: Path) -> AsyncIterator[str]:
    """A mirror's URL; the scripted server is its release server."""
    release = "/amd64-usr/3815.2.1"
    upstream.put(f"{release}/flatcar_production_update.gz", PAYLOAD)
    upstream.put(f"{release}/oem-azure.gz", OEM)
    service = Service(
        Config(
            cache=CacheConfig(directory=tmp_path / "cache", min_free=0, hold_back=1000),
            state_directory=tmp_path / "state",
            tracks={"stable": Pin(version="3815.2.1")},
            upstream=UpstreamConfig(release_url=upstream.origin, omaha_url=None),
        )
    )
    service.cache.limits = replace(service.cache.limits, round_seconds=0.01)
    await service.start()
    listener = Listener(PublicApp(service.decisions, service.packages, service.observer))
    (address,) = await listener.start([Address("127.0.0.1", 0)])
    yield f"http://{address}/v1/update/"
    await listener.stop()
    await service.close()


@pytest.fixture
def got(tmp_path: Path) -> Path:
    directory = tmp_path / "got"
    directory.mkdir()
    return directory


async def test_a_machine_updates_through_a_mirror(mirror: str, got: Path) -> None:
    result = await run_check(MACHINE, mirror, got, silent=True, pause=0)
    assert result.error is None
    assert kept(got) == {"flatcar_production_update.gz": PAYLOAD, "oem-azure.gz": OEM}
    assert result.downloads[0].cache_status == "omaha-mirror; fwd=miss"


@pytest.mark.parametrize("at", [0, 150_000, len(PAYLOAD) - 1])
async def test_a_byte_flipped_before_the_mirror_never_becomes_a_file(
    mirror: str, upstream: Upstream, got: Path, at: int
) -> None:
    upstream.fault("/amd64-usr/3815.2.1/flatcar_production_update.gz", Corrupt(at=at))
    result = await run_check(MACHINE, mirror, got, silent=True, pause=0)
    assert result.error is not None
    assert kept(got) == {}


# The command


def check(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["check", *args])
    assert isinstance(result.exception, SystemExit | None)
    return result


def check_process(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omaha_mirror", "check", *args]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_an_offer_in_words(process_server: ThreadedUpstream) -> None:
    done = check("--server", process_server.origin, "--version", "3815.2.0")
    assert (done.exit_code, done.stderr) == (0, "")
    first, *packages, source = done.stdout.splitlines()
    assert first == "3815.2.1 is offered to a machine with 3815.2.0 (track stable, amd64-usr):"
    assert [line.split() for line in packages][:2] == [
        ["update.gz", "300.0", "kB"],
        ["oem-azure.gz", "5.0", "kB"],
    ]
    assert source == f"  from {process_server.origin}/files/"


def test_no_update_in_words(process_server: ThreadedUpstream) -> None:
    process_server.do(lambda server: server.answer(UPDATE, lambda _: NO_UPDATE))
    done = check("--server", process_server.url(UPDATE))
    assert done.exit_code == 0
    assert done.stdout.startswith("No update. That is no error:")
    assert re.search(r"omaha-mirror explain [0-9a-f]{32} ", done.stdout)


def test_a_servers_own_reason_in_words(process_server: ThreadedUpstream) -> None:
    body = answer(UpdateCheck(status=UpdateStatus.NO_UPDATE), AppStatus.RESTRICTED)
    process_server.do(lambda server: server.answer(UPDATE, lambda _: body))
    done = check("--server", process_server.url(UPDATE))
    assert done.exit_code == 0
    assert done.stdout.startswith("No update. The server answers restricted for the application ")


def test_quiet_is_quiet_but_for_errors(process_server: ThreadedUpstream, tmp_path: Path) -> None:
    args = ("--quiet", "--server", process_server.origin, "--download", str(tmp_path))
    done = check(*args)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "update.gz").read_bytes() == PAYLOAD
    process_server.do(lambda server: server.answer(UPDATE, lambda _: b"no XML"))
    done = check(*args)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")


def test_an_unknown_application_in_words(process_server: ThreadedUpstream) -> None:
    body = answer(UpdateCheck(status=UpdateStatus.NO_UPDATE), AppStatus.UNKNOWN_APPLICATION)
    process_server.do(lambda server: server.answer(UPDATE, lambda _: body))
    done = check("--server", process_server.origin, "--app-id", "12345678" + FLATCAR_APP_ID[8:])
    assert done.exit_code == 0
    assert done.stdout.startswith("The server does not know the application 12345678-")


def test_a_missing_oem_package_is_pointed_out(process_server: ThreadedUpstream) -> None:
    done = check("--server", process_server.origin, "--oem", "gce")
    assert "There is no oem-gce.gz in it." in done.stdout


def test_a_download_in_words(process_server: ThreadedUpstream, tmp_path: Path) -> None:
    process_server.fault("/files/update.gz", Fin(at=70_000, times=1))
    directory = tmp_path / "new" / "folder"
    done = check("--server", process_server.origin, "--download", str(directory))
    assert done.exit_code == 0
    assert "downloading update.gz, 300.0 kB\n" in done.stderr
    assert "update.gz was cut at byte 70000 of 300000" in done.stderr
    assert f"{directory}/update.gz is verified: 300.0 kB" in done.stdout
    assert (directory / "update.gz").read_bytes() == PAYLOAD


KEYS = {
    "server",
    "outcome",
    "app_status",
    "poll_interval",
    "version",
    "packages",
    "downloads",
    "error",
}


def test_json_of_a_download(process_server: ThreadedUpstream, tmp_path: Path) -> None:
    done = check("--server", process_server.origin, "--json", "--download", str(tmp_path))
    assert (done.exit_code, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert set(data) == KEYS
    assert (data["outcome"], data["version"], data["error"]) == ("offer", "3815.2.1", None)
    assert data["packages"][0] == {
        "name": "update.gz",
        "url": process_server.url("/files/update.gz"),
        "size": len(PAYLOAD),
        "required": True,
        "sha1": None,
        "sha256": sha256(PAYLOAD).hex,
    }
    first = data["downloads"][0]
    assert set(first) == {"name", "path", "size", "seconds", "requests", "cache_status"}
    assert first["path"] == str(tmp_path / "update.gz")


def test_json_has_the_same_keys_whatever_happens(process_server: ThreadedUpstream) -> None:
    process_server.do(lambda server: server.answer(UPDATE, lambda _: NO_UPDATE))
    none = json.loads(check("--server", process_server.origin, "--json").stdout)
    process_server.fault(UPDATE, Status(404))
    refused = json.loads(check("--server", process_server.origin, "--json").stdout)
    assert set(none) == set(refused) == KEYS
    assert (none["outcome"], none["error"]) == ("noupdate", None)
    assert refused["outcome"] is None
    assert "HTTP 404" in refused["error"]


def test_wrong_bytes_end_with_4(process_server: ThreadedUpstream, tmp_path: Path) -> None:
    process_server.fault("/files/update.gz", Corrupt(at=5))
    done = check_process("--server", process_server.origin, "--download", str(tmp_path))
    assert done.returncode == 4
    assert re.search(
        r"^Error: .*/files/update.gz has the wrong bytes: their sha256", done.stderr, re.M
    )
    assert kept(tmp_path) == {}


def test_a_refused_answer_ends_with_1(process_server: ThreadedUpstream) -> None:
    process_server.fault(UPDATE, Status(404))
    done = check("--server", process_server.origin)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "the update server answered HTTP 404" in done.stderr


def test_no_server_ends_with_5() -> None:
    done = check_process("--server", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "Error: no answer from http://127.0.0.1:1/v1/update/: Connection refused;"
        " is it the address of a mirror, and does that run?\n"
    )


@pytest.mark.parametrize(
    ("args", "status", "why"),
    [
        (["--server", "mirror:8000"], 2, "it must start with http://"),
        (["--track", "\x01"], 2, "XML cannot carry"),
        (["--download", __file__], 2, "is a file"),
        (["--download", "/proc/none"], 1, "/proc/none"),
    ],
)
def test_what_cannot_be_asked_is_one_line(args: list[str], status: int, why: str) -> None:
    done = check(*args)
    assert (done.exit_code, done.stdout) == (status, "")
    assert why in done.stderr


def test_this_host_is_always_the_same_machine(process_server: ThreadedUpstream) -> None:
    for _ in range(2):
        check("--server", process_server.origin)
    first, second = (parse_request(r.body).apps[0] for r in process_server.requests(UPDATE))
    assert first.machineid == second.machineid
    assert re.fullmatch("[0-9a-f]{32}", first.machineid)
