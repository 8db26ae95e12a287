"""The doctor: each check says what is, and what to do; none hangs, and none changes anything."""

import asyncio
import json
import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

from omaha_mirror.cache.lock import DirectoryLock
from omaha_mirror.catalog import catalog_file
from omaha_mirror.cli import doctor_findings, doctor_host, doctor_network
from omaha_mirror.cli.doctor import outcome
from omaha_mirror.cli.doctor_findings import Found, fail, in_thread, ok, warn
from omaha_mirror.cli.doctor_host import directory, disk, examine_host, file_system
from omaha_mirror.cli.doctor_network import examine_network
from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.main import cli
from omaha_mirror.config import Address, Config
from omaha_mirror.observability.counters import Counters
from omaha_mirror.observability.health import Examiner, Finding, State
from omaha_mirror.payload import load_keys
from omaha_mirror.web.admin.app import AdminApp
from omaha_mirror.web.admin.overview_api import HealthApi
from omaha_mirror.web.server import Handler, Listener
from tests.catalog.scene import release
from tests.cli.running import run
from tests.payload.build import DATA
from tests.support.nebraska import Nebraska
from tests.support.ports import free_address
from tests.support.talk import PATIENCE
from tests.support.upstream import Hangup, Redirect, Status, Upstream

KEY = DATA / "update-payload-key.pub.pem"
VERSION = "3815.2.1"
PAYLOAD = "flatcar_production_update.gz"
PATH = f"/amd64-usr/{VERSION}/{PAYLOAD}"
ROOT = Path(__file__).parent.parent.parent
CA = ROOT / "tests" / "data" / "tls" / "authority.pem"


def config(directory: Path, server: Upstream, /, **changes: Any) -> Config:
    """A config with which all is well, and `changes` of it."""
    up = {
        "omaha_url": server.url("/v1/update/"),
        "release_url": server.origin,
        "ca_file": str(CA),
        **changes.pop("upstream", {}),
    }
    cache = {"directory": directory / "cache", "max_size": 10**6, "min_free": 0}
    return Config.model_validate(
        {
            "listen": ["127.0.0.1:0"],
            "admin": {"listen": ["127.0.0.1:0"]},
            "cache": cache | changes.pop("cache", {}),
            "state_directory": directory / "state",
            "upstream": up,
            **changes,
        }
    )


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    """An upstream with one release."""
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: b"payload", "oem-azure.gz": b"azure"})
    nebraska.group("stable", VERSION)
    upstream.put("/", b"here")
    return nebraska


def of(found: list[Found], check: str) -> Found:
    """The one finding of a check."""
    [it] = [each for each in found if each.check == check]
    return it


def states(found: list[Found]) -> set[str]:
    return {each.state for each in found}


# The command


def write(directory: Path, config: Config) -> None:
    (directory / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))


async def test_where_all_is_well_each_check_is_one_line_and_the_status_0(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    write(tmp_path, config(tmp_path, upstream, tracks={"edge": VERSION}))
    done = await run(tmp_path, "doctor")
    assert (done.status, done.err) == (0, ""), done.out
    lines = done.out.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    checks = {line[6:].partition(":")[0] for line in lines}
    assert checks >= {"config", "cache", "state", "disk", "token", "listen", "admin", "mirror"}
    assert checks >= {"dns", "omaha", "upstream", "clock", "release", "public_url", "descriptors"}


async def test_an_upstream_that_is_down_alone_is_5_also_in_json(
    tmp_path: Path, upstream: Upstream
) -> None:
    write(tmp_path, config(tmp_path, upstream))
    await upstream.refuse()
    done = await run(tmp_path, "doctor", "--json")
    assert (done.status, done.err) == (5, "")
    wrong = {check["check"] for check in done.json["checks"] if check["state"] == "fail"}
    assert wrong == {"omaha", "upstream"}
    assert done.json["checks"][0].keys() == {"check", "state", "words"}


def test_a_bad_config_is_78_and_ends_the_examination(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("cache: {max_sise: 1}\n")
    result = CliRunner().invoke(cli, ["doctor", "--config", str(path)])
    assert result.exit_code == 78
    assert result.output.startswith(f"fail  config: {path}:1:")
    assert "did you mean" in result.output
    result = CliRunner().invoke(cli, ["doctor", "--config", str(path), "--json"])
    [check] = json.loads(result.output)["checks"]
    assert (result.exit_code, check["check"], check["state"]) == (78, "config", "fail")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([ok("a", ""), warn("b", "")], 0),
        ([fail("a", "", Exit.UPSTREAM_UNREACHABLE), warn("b", "")], 5),
        ([fail("a", "", Exit.UPSTREAM_UNREACHABLE), fail("b", "")], 1),
    ],
)
def test_what_is_wrong_here_counts_before_upstream(found: list[Found], expected: int) -> None:
    assert outcome(found) == expected


async def test_it_changes_nothing(tmp_path: Path, upstream: Upstream, nebraska: Nebraska) -> None:
    settings = config(tmp_path, upstream, tracks={"edge": VERSION})
    (tmp_path / "cache").mkdir()
    await examine_host(settings)
    await examine_network(settings)
    assert (os.listdir(tmp_path), os.listdir(tmp_path / "cache")) == (["cache"], [])
    assert nebraska.open_grants() == []
    assert [request.method for request in upstream.requests(PATH)] == ["HEAD"]


# This host


@pytest.mark.parametrize("name", ["cache", "state"])
async def test_a_directory_that_cannot_be_is_found(
    tmp_path: Path, upstream: Upstream, name: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below"
    change = {"cache": {"directory": place}} if name == "cache" else {"state_directory": place}
    found = await examine_host(config(tmp_path, upstream, **change))
    assert of(found, name).state == "fail"
    assert str(place) in of(found, name).words


def test_a_file_in_place_of_a_directory_is_found(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.touch()
    found = directory("cache", place)
    assert found.state == "fail"
    assert f"cannot write to {place}" in found.words


def test_a_cache_on_two_file_systems_is_found(tmp_path: Path) -> None:
    (tmp_path / "blobs").symlink_to("/dev/shm")
    [found] = file_system(tmp_path)
    assert found.state == "fail"
    (tmp_path / "blobs").unlink()
    assert list(file_system(tmp_path)) == []


def test_keys_are_named_with_their_ids_and_their_absence_is_said(
    tmp_path: Path, upstream: Upstream
) -> None:
    [none] = doctor_host.keys(config(tmp_path, upstream))
    assert (none.check, none.state) == ("keys", "ok")
    assert "machines alone check the signature" in none.words
    change = {"upstream": {"public_keys": [str(KEY)]}}
    [found] = doctor_host.keys(config(tmp_path, upstream, **change))
    [key] = load_keys([KEY])
    assert (found.state, found.words) == ("ok", f"{KEY}: RSA, 2048 bits, id {key.id}")


@pytest.mark.parametrize(
    ("cache", "state"),
    [({}, "ok"), ({"max_size": 2**62}, "warn"), ({"min_free": 2**62}, "fail")],
)
def test_a_disk_too_small_for_the_config_is_found(
    tmp_path: Path, upstream: Upstream, cache: dict[str, int], state: str
) -> None:
    assert disk(config(tmp_path, upstream, cache=cache)).state == state


async def test_a_hung_disk_holds_nobody_up(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(doctor_findings, "DEADLINE", 0.5)
    monkeypatch.setattr(doctor_host, "disk", lambda _: gate.wait(PATIENCE))
    found = await examine_host(config(tmp_path, upstream))
    assert of(found, "disk").state == "fail"
    assert "has not answered" in of(found, "disk").words
    assert of(found, "cache").state == "ok"
    gate.set()


@pytest.mark.parametrize(
    ("content", "mode", "state", "words"),
    [
        (None, 0, "ok", "will be made"),
        ("secret", 0o600, "ok", "is a secret"),
        ("secret", 0o640, "warn", "chmod 600"),
        ("", 0o600, "fail", "holds no token"),
    ],
)
async def test_a_token_must_be_a_secret(
    tmp_path: Path, upstream: Upstream, content: str | None, mode: int, state: str, words: str
) -> None:
    place = tmp_path / "token"
    if content is not None:
        place.write_text(content)
        place.chmod(mode)
    admin = {"listen": ["127.0.0.1:0"], "token_file": place}
    found = of(await examine_host(config(tmp_path, upstream, admin=admin)), "token")
    assert (found.state, words in found.words) == (state, True), found


def test_few_file_descriptors_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert doctor_host.descriptors(None).state == "warn"
    assert "LimitNOFILE" in doctor_host.descriptors(None).words


# Addresses, and the mirror that runs


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


async def test_an_address_that_another_program_has_is_found(
    tmp_path: Path, upstream: Upstream, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = of(await examine_host(config(tmp_path, upstream, listen=[taken])), "listen")
    assert found.state == "fail"
    assert "ss -ltnp" in found.words


async def test_an_address_that_the_socket_unit_holds_is_well(
    tmp_path: Path, upstream: Upstream, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$*" = "is-active --quiet omaha-mirror.socket" ]\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = of(await examine_host(config(tmp_path, upstream, listen=[taken])), "listen")
    assert (found.state, "omaha-mirror.socket" in found.words) == ("ok", True)


async def test_an_address_that_this_host_does_not_have_is_found(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 8000))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place])
    found = of(await examine_host(config(tmp_path, upstream, listen=["192.0.2.1:8000"])), "listen")
    assert found.state == "fail"
    assert "192.0.2.1:8000: Cannot assign requested address: name an address" in found.words


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    listener = Listener(handler)
    [address] = await listener.start([Address("127.0.0.1", 0)])
    try:
        yield str(address)
    finally:
        await listener.stop()


@asynccontextmanager
async def running(cache: Path, *told: Finding) -> AsyncIterator[tuple[str, str]]:
    """A mirror's listeners, its lock, and what /readyz finds."""
    os.mkdir(cache)
    examiner = Examiner({}, [lambda: told])
    admin = AdminApp(HealthApi(examiner, Counters()).routes(), "x", [Address("127.0.0.1", 1)])

    async def alive(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with serving(alive) as public, serving(admin) as private:
        lock = DirectoryLock(cache)
        lock.tell(private)
        try:
            yield public, private
        finally:
            lock.close()
            await examiner.close()


async def test_the_running_mirror_has_its_addresses_and_is_asked(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with running(tmp_path / "cache") as (public, private):
        settings = config(tmp_path, upstream, listen=[public], admin={"listen": [private]})
        found = await examine_host(settings)
    assert states(found) == {"ok"}
    assert "is the running mirror's" in of(found, "listen").words
    assert "is the running mirror's" in of(found, "admin").words
    assert of(found, "mirror").words == f"process {os.getpid()} runs and is ready"
    assert "the running mirror may open" in of(found, "descriptors").words


async def test_what_the_running_mirror_finds_wrong_is_told(
    tmp_path: Path, upstream: Upstream
) -> None:
    wrong = Finding("disk", State.FAILED, "it is full")
    slow = Finding("track stable", State.DEGRADED, "it is down")
    fine = Finding("cache", State.OK, "")
    async with running(tmp_path / "cache", wrong, slow, fine):
        found = await examine_host(config(tmp_path, upstream))
    assert of(found, "mirror: disk") == fail("mirror: disk", "it is full")
    assert of(found, "mirror: track stable") == warn("mirror: track stable", "it is down")
    assert [each.check for each in found if each.check.startswith("mirror")] == [
        "mirror: disk",
        "mirror: track stable",
    ]


async def test_a_mirror_that_listens_elsewhere_needs_a_restart(
    tmp_path: Path, upstream: Upstream
) -> None:
    free = str(free_address())
    async with running(tmp_path / "cache"):
        found = await examine_host(config(tmp_path, upstream, listen=[free]))
    assert (of(found, "listen").state, "restart" in of(found, "listen").words) == ("warn", True)


async def test_a_mirror_that_does_not_answer_is_found(
    tmp_path: Path, upstream: Upstream, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_findings, "DEADLINE", 0.5)
    (tmp_path / "cache").mkdir()
    lock = DirectoryLock(tmp_path / "cache")
    lock.tell(taken)
    found = await examine_host(config(tmp_path, upstream, listen=[taken]))
    lock.close()
    assert of(found, "listen").state == "fail"
    assert of(found, "mirror").state == "fail"
    assert "nothing came" in of(found, "mirror").words


async def test_something_else_than_health_is_found(tmp_path: Path, upstream: Upstream) -> None:
    async def nonsense(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="<html>")

    (tmp_path / "cache").mkdir()
    lock = DirectoryLock(tmp_path / "cache")
    async with serving(nonsense) as address:
        lock.tell(address)
        found = await examine_host(config(tmp_path, upstream))
    lock.close()
    mirror = of(found, "mirror")
    assert (mirror.state, mirror.words.endswith("does not answer with its health")) == (
        "fail",
        True,
    )


# Upstream


async def test_the_omaha_server_is_asked_as_the_newest_machine_there_is(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    nebraska.group("beta", VERSION)
    tracks = {"lts": "hold", "beta": "relay"}
    found = await examine_network(config(tmp_path, upstream, tracks=tracks))
    assert of(found, "omaha").state == "ok"
    [[app]] = [request.apps for request in nebraska.requests]
    assert (app.track, app.version, app.update_check is not None) == ("beta", "9999.0.0", True)
    assert nebraska.open_grants() == []


async def test_an_omaha_server_without_the_application_is_a_warning(
    tmp_path: Path, upstream: Upstream
) -> None:
    Nebraska(upstream)
    found = of(await examine_network(config(tmp_path, upstream)), "omaha")
    assert (found.state, "error-failedToRetrieveUpdatePackageInfo" in found.words) == ("warn", True)


async def test_a_web_page_is_no_omaha_server(tmp_path: Path, upstream: Upstream) -> None:
    upstream.answer("/v1/update/", lambda _: b"<html>welcome</html>")
    found = of(await examine_network(config(tmp_path, upstream)), "omaha")
    assert (found.state, found.exit) == ("fail", Exit.UPSTREAM_UNREACHABLE)
    assert "not the response of an Omaha server" in found.words


async def test_no_omaha_server_is_no_failure(tmp_path: Path, upstream: Upstream) -> None:
    settings = config(tmp_path, upstream, upstream={"omaha_url": None})
    assert of(await examine_network(settings), "omaha").state == "ok"


async def test_an_upstream_that_says_nothing_is_given_up(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (doctor_findings, doctor_network):
        monkeypatch.setattr(module, "DEADLINE", 0.5)
    for path in ("/", "/v1/update/", PATH):
        upstream.hold(path)
    async with asyncio.timeout(PATIENCE):
        found = await examine_network(config(tmp_path, upstream, tracks={"edge": VERSION}))
    silent = {each.check for each in found if each.state == "fail"}
    assert silent == {"omaha", "upstream", "release"}
    assert outcome(found) == Exit.UPSTREAM_UNREACHABLE


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        (VERSION, {"ok"}),
        ({"version": VERSION, "packages": ["oem-azure.gz"]}, {"ok"}),
        ({"version": VERSION, "packages": ["oem-gce.gz"]}, {"ok", "fail"}),
        ("9.9.9", {"fail"}),
    ],
)
async def test_a_pin_must_be_on_the_release_server_for_one_board(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, pin: Any, expected: set[str]
) -> None:
    found = await examine_network(config(tmp_path, upstream, tracks={"edge": pin}))
    release = [each for each in found if each.check == "release"]
    assert states(release) == expected
    assert {each.exit for each in release} == {Exit.FAILURE}


async def test_a_payload_without_a_sidecar_is_a_warning(tmp_path: Path, upstream: Upstream) -> None:
    upstream.put(PATH, b"payload", sidecar=False)
    found = await examine_network(config(tmp_path, upstream, default_track=VERSION))
    assert (of(found, "release").state, ".sha256" in of(found, "release").words) == ("warn", True)


async def test_a_release_server_in_trouble_is_upstream_s(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault(PATH, Status(503))
    found = of(
        await examine_network(config(tmp_path, upstream, tracks={"edge": VERSION})), "release"
    )
    assert (found.state, found.exit) == ("fail", Exit.UPSTREAM_UNREACHABLE)


async def test_a_redirect_that_is_not_allowed_is_found_with_its_host_and_key(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault("/", Redirect("https://cdn.example/"))
    found = of(await examine_network(config(tmp_path, upstream, tracks={})), "redirect")
    assert found.state == "fail"
    assert "https://cdn.example " in found.words
    assert "upstream.allowed_hosts" in found.words


@pytest.mark.parametrize(
    ("skew", "state", "words"),
    [(0, "ok", "within"), (-400, "fail", "ahead of"), (400, "fail", "behind"), (280, "ok", "")],
)
async def test_a_wrong_clock_is_found(
    tmp_path: Path,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    skew: float,
    state: str,
    words: str,
) -> None:
    date = formatdate(time.time() + skew, usegmt=True)
    monkeypatch.setattr("tests.support.upstream.formatdate", lambda **_: date)
    found = await examine_network(config(tmp_path, upstream))
    assert of(found, "upstream").state == "ok"  # a 404 is an answer
    assert (of(found, "clock").state, words in of(found, "clock").words) == (state, True)


async def test_a_name_that_is_not_known_is_found(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = of(await examine_network(config(tmp_path, upstream)), "dns")
    assert (found.state, found.exit) == ("fail", Exit.UPSTREAM_UNREACHABLE)
    assert "127.0.0.1 is not known (Name or service not known)" in found.words


async def test_behind_a_proxy_only_its_name_counts_and_its_password_is_not_told(
    tmp_path: Path, upstream: Upstream, taken: str
) -> None:
    up = {
        "omaha_url": None,
        "release_url": "http://release.example",
        "proxy": f"http://me:secret@{taken}",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor_network, "DEADLINE", 1.0)
        found = await examine_network(config(tmp_path, upstream, upstream=up))
    assert of(found, "dns").words.startswith("127.0.0.1 is ")
    assert of(found, "proxy").state == "ok"
    assert of(found, "upstream").state == "fail"  # the proxy says nothing
    assert not any("secret" in each.words for each in found)


async def test_a_proxy_that_is_down_is_found(tmp_path: Path, upstream: Upstream) -> None:
    await upstream.refuse()
    up = {"proxy": upstream.origin}
    found = of(await examine_network(config(tmp_path, upstream, upstream=up)), "proxy")
    assert (found.state, found.exit) == ("fail", Exit.UPSTREAM_UNREACHABLE)


@pytest.mark.parametrize(("path", "state"), [("/healthz", "ok"), ("/other", "warn")])
async def test_the_public_url_should_lead_here(
    tmp_path: Path, upstream: Upstream, path: str, state: str
) -> None:
    upstream.put(path, b"ok")
    settings = config(tmp_path, upstream, public_url=upstream.origin)
    assert of(await examine_host(settings), "public_url").state == state


async def test_behind_a_proxy_a_public_url_should_be_set(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings = config(tmp_path, upstream, trusted_proxies=["10.0.0.1"])
    found = of(await examine_host(settings), "public_url")
    assert found.state == "warn"
    assert "set public_url" in found.words


async def test_a_public_url_that_leads_nowhere_is_a_warning(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.fault("/healthz", Hangup())
    settings = config(tmp_path, upstream, public_url=upstream.origin)
    found = of(await examine_host(settings), "public_url")
    assert (found.state, "cannot be reached" in found.words) == ("warn", True)


async def test_a_ca_file_that_was_emptied_is_found(tmp_path: Path, upstream: Upstream) -> None:
    emptied = tmp_path / "ca.pem"
    emptied.write_bytes(CA.read_bytes())
    settings = config(tmp_path, upstream, upstream={"ca_file": str(emptied)})
    emptied.write_text("")
    [found] = await examine_network(settings)
    assert (found.state, "ca_file" in found.words) == ("fail", True)


async def test_what_fails_in_a_thread_is_raised_here() -> None:
    with pytest.raises(FileNotFoundError):
        await in_thread(partial(os.stat, "/nowhere"))


async def test_without_a_release_server_the_omaha_server_is_asked_for_the_time(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    found = await examine_network(
        config(tmp_path, upstream, upstream={"release_url": None}, tracks={"edge": VERSION})
    )
    assert "upstream.release_url is null" in of(found, "release").words
    assert nebraska.url in of(found, "clock").words or nebraska.url in of(found, "upstream").words
    assert "fail" not in states(found)


async def test_a_track_that_upstream_has_not_is_a_warning_that_names_the_key(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    tracks = {"prod": "follow", "test": {"mode": "relay", "upstream_track": "stable"}}
    found = await examine_network(config(tmp_path, upstream, tracks=tracks))
    words = [item.words for item in found if item.check == "omaha"]
    assert [("tracks.prod.upstream_track" in text, " stable" in text) for text in words] == [
        (True, False),
        (False, True),
    ]


async def test_extensions_that_a_pinned_version_lacks_are_named(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.put(f"/amd64-usr/3000.0.0/{PAYLOAD}", b"older")
    told = release("flatcar-podman.gz", version=VERSION)
    settings = config(tmp_path, upstream, tracks={"stable": "3000.0.0"})
    settings.state_directory.mkdir()
    catalog_file.save(
        settings.state_directory / "catalog.json", catalog_file.State(upstream=(told,))
    )
    found = of(await examine_network(settings), "extensions")
    assert found.state == "warn"
    assert "3000.0.0" in found.words
    assert "flatcar-podman.gz" in found.words
    upstream.put("/amd64-usr/3000.0.0/flatcar-podman.gz", b"podman")
    checks = [each.check for each in await examine_network(settings)]
    assert "extensions" not in checks
