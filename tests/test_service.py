"""The service before a scripted release server: what machines are told, and what is fetched for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.cache.errors import CoolingDown
from omaha_mirror.catalog import PackageFile, Reason, Release
from omaha_mirror.config import Config
from omaha_mirror.omaha import AppRequest, Request
from omaha_mirror.policy.decide import Decision
from omaha_mirror.service import Service
from tests.support.upstream import Status, Upstream

APP = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
BOARD = "amd64-usr"
VERSION = "3815.2.1"
NAME = "flatcar_production_update.gz"
PAYLOAD = f"/{BOARD}/{VERSION}/{NAME}"
AZURE = f"/{BOARD}/{VERSION}/oem-azure.gz"
BODY = b"payload" * 1000
MACHINE = AppRequest(appid=APP, version="3815.2.0", track="stable", board=BOARD)
ON_AZURE = AppRequest(appid=APP, version="3815.2.0", track="stable", board=BOARD, oem="azure")

Open = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def mirror(upstream: Upstream, tmp_path: Path) -> Open:
    """Opens a service over the same directories, with changes to its config."""
    upstream.put(PAYLOAD, BODY)
    upstream.put(AZURE, b"azure" * 100)

    @asynccontextmanager
    async def open_(**changes: Any) -> AsyncIterator[Service]:
        config = {
            "cache": {"directory": str(tmp_path / "cache"), "min_free": 0},
            "state_directory": str(tmp_path / "state"),
            "default_track": "hold",
            "tracks": {"stable": VERSION},
            "upstream": {
                "omaha_url": None,
                "release_url": upstream.origin,
                "stall_timeout": "1s",
            },
            **changes,
        }
        service = Service(Config.model_validate(config))
        await service.start()
        try:
            yield service
        finally:
            await service.close()

    return open_


async def decide(service: Service, machine: AppRequest) -> Decision:
    return await service.decisions.decide(Request(apps=(machine,)), machine)


async def offer(service: Service, machine: AppRequest = MACHINE) -> Release:
    decision = await decide(service, machine)
    assert decision.reason is Reason.OFFERED
    assert decision.release is not None
    return decision.release


async def read(service: Service, file: PackageFile | None) -> bytes:
    """All bytes of a package, as a machine gets them; returns when they have their name on disk."""
    assert file is not None
    got = b""
    with service.packages.read(file, 0, file.size) as reader:
        while window := await reader.window():
            window.file.seek(window.offset)
            got += window.file.read(window.count)
            reader.advance(window.count)
    await asyncio.gather(*service.cache._tasks.values())
    return got


async def test_a_machine_of_a_pinned_track_is_offered_the_release_without_a_download(
    upstream: Upstream, mirror: Open
) -> None:
    async with mirror() as service:
        release = await offer(service, ON_AZURE)
        assert [file.name for file in release.files] == [NAME, "oem-azure.gz"]
        assert upstream.bytes_sent(PAYLOAD) == upstream.bytes_sent(AZURE) == 0
        file = service.packages.package(release.id, NAME)
        assert await read(service, file) == BODY
        assert await read(service, file) == BODY
        assert upstream.bytes_sent(PAYLOAD) == len(BODY)
        assert service.observer.totals.fetched == len(BODY) + len(b"azure" * 100)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (AppRequest(appid="{another}", board=BOARD, version="1.0"), Reason.UNKNOWN_APP),
        (AppRequest(appid=APP, board=BOARD, version="1.0", track="beta"), Reason.HELD),
        (
            AppRequest(appid=APP, board="../x", version="1.0", track="stable"),
            Reason.UNKNOWN_BOARD,
        ),
        (
            AppRequest(appid=APP, board=BOARD, version="one", track="stable"),
            Reason.VERSION_UNREADABLE,
        ),
        (AppRequest(appid=APP, board=BOARD, version=VERSION, track="stable"), Reason.UP_TO_DATE),
        (AppRequest(appid=APP, board=BOARD, version="9999.0.0", track="stable"), Reason.NEWER),
    ],
)
async def test_what_needs_no_upstream_asks_none(
    upstream: Upstream, mirror: Open, machine: AppRequest, expected: Reason
) -> None:
    async with mirror() as service:
        assert (await decide(service, machine)).reason is expected
        assert upstream.log == []


async def test_a_downgrade_is_offered_where_the_config_says_so(mirror: Open) -> None:
    pin = {"version": VERSION, "allow_downgrade": True}
    newer = AppRequest(appid=APP, version="9999.0.0", track="stable", board=BOARD)
    async with mirror(tracks={"stable": pin}) as service:
        await offer(service, newer)


async def test_a_package_that_the_config_names_is_part_of_the_release(mirror: Open) -> None:
    pin = {"version": VERSION, "packages": ["oem-azure.gz"]}
    async with mirror(tracks={"stable": pin}) as service:
        assert [file.name for file in (await offer(service)).files] == [NAME, "oem-azure.gz"]


async def test_a_slow_upstream_holds_a_check_up_for_a_moment_only(
    upstream: Upstream, mirror: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    gate = upstream.hold(PAYLOAD)
    async with mirror() as service:
        assert (await decide(service, MACHINE)).reason is Reason.WARMING
        await gate.reached()
        gate.open()
        monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 30.0)
        await offer(service)


async def test_an_outage_is_no_update_and_no_error(upstream: Upstream, mirror: Open) -> None:
    await upstream.refuse()
    async with mirror() as service:
        decision = await decide(service, MACHINE)
        assert (decision.reason, decision.release) == (Reason.UNREACHABLE, None)


async def test_a_restart_with_the_line_down_offers_and_serves_what_is_here(
    upstream: Upstream, mirror: Open
) -> None:
    async with mirror() as service:
        release = await offer(service)
        await read(service, release.payload)
    await upstream.refuse()
    async with mirror() as service:
        assert await offer(service) == release
        file = service.packages.package(release.id, NAME)
        assert await read(service, file) == BODY


async def test_a_payload_that_keeps_being_wrong_is_offered_no_more(
    upstream: Upstream, mirror: Open
) -> None:
    upstream.put(f"{PAYLOAD}.sha256", b"0" * 64, sidecar=False)
    async with mirror() as service:
        release = await offer(service)
        with pytest.raises(CoolingDown):
            await read(service, release.payload)
        decision = await decide(service, MACHINE)
        assert (decision.reason, decision.release) == (Reason.PAYLOAD_WRONG, None)
        assert upstream.url(PAYLOAD) in decision.detail


async def test_without_a_sidecar_a_payload_is_fetched_once_to_be_known(
    upstream: Upstream, mirror: Open
) -> None:
    for path in (PAYLOAD, AZURE):
        upstream.remove(path)
    upstream.put(PAYLOAD, BODY, sidecar=False)
    async with mirror() as service:
        release = await offer(service)
        assert release.payload.sha256 is not None
        assert await offer(service, ON_AZURE) == release
        assert await read(service, release.payload) == BODY
        assert upstream.bytes_sent(PAYLOAD) == len(BODY)


async def test_without_a_sidecar_nothing_is_offered_before_it_was_fetched(
    upstream: Upstream, mirror: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    upstream.remove(PAYLOAD)
    upstream.put(PAYLOAD, BODY, sidecar=False)
    gate = upstream.hold(PAYLOAD, at=len(BODY) - 1)
    async with mirror() as service:
        assert (await decide(service, MACHINE)).reason is Reason.WARMING
        await gate.reached()
        assert (await decide(service, MACHINE)).reason is Reason.WARMING


async def test_a_fetch_without_proof_is_an_outage(upstream: Upstream, mirror: Open) -> None:
    upstream.remove(PAYLOAD)
    upstream.put(PAYLOAD, BODY, sidecar=False)
    upstream.fault(PAYLOAD, Status(404, method="GET"))
    async with mirror() as service:
        decision = await decide(service, MACHINE)
        assert decision.reason is Reason.UNREACHABLE
        assert upstream.url(PAYLOAD) in decision.detail


async def test_the_layout_learns_a_pinned_version_on_the_first_demand(
    upstream: Upstream, mirror: Open
) -> None:
    async with mirror() as service:
        first, second = await asyncio.gather(
            service.packages.layout_file(BOARD, VERSION, NAME),
            service.packages.layout_file(BOARD, VERSION, NAME),
        )
        assert first == second == await service.packages.layout_file(BOARD, VERSION, NAME)
        assert await read(service, first) == BODY
        assert len(upstream.requests(PAYLOAD, "HEAD")) == 1
        azure = await service.packages.layout_file(BOARD, VERSION, "oem-azure.gz")
        assert azure is not None
        assert azure.url == upstream.url(AZURE)
        assert not service.packages.changed_recently(BOARD, VERSION, NAME)


@pytest.mark.parametrize(
    ("version", "name"),
    [(VERSION, "oem-ami.gz"), (VERSION, "other.gz"), ("3815.2.0", NAME), ("..", NAME)],
)
async def test_the_layout_has_nothing_else(mirror: Open, version: str, name: str) -> None:
    async with mirror() as service:
        await offer(service)
        assert await service.packages.layout_file(BOARD, version, name) is None


async def test_the_layout_asks_upstream_about_pinned_versions_only(
    upstream: Upstream, mirror: Open
) -> None:
    async with mirror() as service:
        assert await service.packages.layout_file(BOARD, "3815.2.0", NAME) is None
        assert upstream.log == []


async def test_the_layout_can_be_switched_off(upstream: Upstream, mirror: Open) -> None:
    async with mirror(release_layout="off") as service:
        await offer(service)
        count = len(upstream.log)
        assert await service.packages.layout_file(BOARD, VERSION, NAME) is None
        assert len(upstream.log) == count


async def test_what_is_offered_is_not_evicted_for_another(
    upstream: Upstream, mirror: Open, tmp_path: Path
) -> None:
    upstream.put(f"/{BOARD}/3815.2.2/{NAME}", BODY[::-1])
    room = {"directory": str(tmp_path), "max_size": 3 * len(BODY) // 2, "min_free": 0}
    tracks = {"stable": VERSION, "beta": "3815.2.2"}
    async with mirror(cache=room, tracks=tracks) as service:
        release = await offer(service)
        await read(service, release.payload)
        beta = AppRequest(appid=APP, version="3815.2.0", track="beta", board=BOARD)
        other = await offer(service, beta)
        assert await read(service, other.payload) == BODY[::-1]
        assert await read(service, release.payload) == BODY
        assert upstream.bytes_sent(PAYLOAD) == len(BODY)
