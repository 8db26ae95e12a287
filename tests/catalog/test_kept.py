"""What the catalog keeps: over restarts and full disks, and for whom it stays servable."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.catalog import Pin, Reason, catalog_file
from omaha_mirror.catalog.catalog_file import State, load
from omaha_mirror.catalog.version_lookup import FRESH
from omaha_mirror.upstream.release_server import ReleaseServer
from tests.catalog.scene import (
    APP,
    AZURE,
    BOARD,
    BODY,
    DAY,
    PAYLOAD,
    PIN,
    VERSION,
    Site,
    ask,
    offered,
    path_of,
    quiet,
    reason,
    sha256,
)
from tests.support.clock import SetClock
from tests.support.logs import Logs
from tests.support.talk import PATIENCE
from tests.support.upstream import Status, Upstream

# Restarts and the disk


async def test_a_restart_with_the_line_down_serves_what_was_known(
    upstream: Upstream, site: Site
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    old = await offered(catalog)
    await offered(catalog, "qemu")
    release = await offered(catalog, "azure")
    await site.line_down()
    catalog = await site.restart(catalog)
    for oem in ("azure", "qemu", ""):
        assert await offered(catalog, oem) == release
        assert reason(await ask(catalog, oem), oem) is Reason.OFFERED
    assert catalog.current() == [release]
    assert catalog.package(old.id, PAYLOAD) is not None


async def test_what_is_known_outlasts_any_time_without_a_line(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    await site.line_down()
    clock.later = 30 * DAY
    for _ in range(2):
        catalog = await site.restart(catalog)
    assert await offered(catalog) == release


async def test_a_restart_does_not_take_trouble_for_an_answer(
    upstream: Upstream, site: Site
) -> None:
    site.publish(["oem-azure.gz"])
    upstream.fault(path_of("oem-azure.gz"), Status(503))
    catalog = await site.start()
    assert reason(await ask(catalog, "azure"), "azure") is Reason.INCOMPLETE
    await site.line_down()
    catalog = await site.restart(catalog)
    assert reason(await ask(catalog, "azure"), "azure") is not Reason.OFFERED


async def test_a_damaged_file_is_put_aside_and_all_is_learnt_anew(site: Site, logs: Logs) -> None:
    site.publish()
    site.path.write_text('{"format": 1, "rel')
    catalog = await site.start()
    assert site.path.with_suffix(".damaged").read_text() == '{"format": 1, "rel'
    assert str(site.path) in str(logs)
    release = await offered(catalog)
    assert [item.release for item in load(site.path).releases] == [release]


async def test_uses_are_kept_over_a_restart_and_cost_no_write(site: Site, clock: SetClock) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    written = site.path.stat()
    clock.later = 0.9 * FRESH
    for _ in range(1000):
        assert (await offered(catalog)) == release
        assert catalog.package(release.id, PAYLOAD)
        assert catalog.layout_file(BOARD, VERSION, PAYLOAD)
    assert (site.path.stat().st_ino, site.path.stat().st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )
    await site.stop(catalog)
    [item] = load(site.path).releases
    assert item.last_used == pytest.approx(clock.time(), abs=60)


async def test_a_full_disk_stops_no_update_and_is_tried_again(
    site: Site, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody need ask for anything: what was offered is to outlast a restart."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def save(path: Path, known: State) -> None:
        right(path, known)
        loop.call_soon_threadsafe(written.set)

    right, loop, written = catalog_file.save, asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(catalog_file, "RETRY", 0.02)
    monkeypatch.setattr(catalog_file, "save", save)
    site.publish()
    opened = await site.start()
    with monkeypatch.context() as disk:
        disk.setattr("omaha_mirror.catalog.catalog_file.save", full)
        release = await offered(opened)
    assert "No space left on device" in str(logs)
    assert load(site.path).releases == ()
    async with asyncio.timeout(PATIENCE):
        await written.wait()
    assert [item.release for item in load(site.path).releases] == [release]


async def test_another_address_of_the_same_release_counts_at_once(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    async with Upstream() as moved:
        other = Site(moved, site.path, clock)
        other.publish()
        await site.stop(catalog)
        catalog = await other.start()
        await ask(catalog)
        await quiet(catalog)
        file = catalog.package(release.id, PAYLOAD)
        assert file is not None
        assert file.url == moved.url(path_of(PAYLOAD))
        await other.stop(catalog)
        await other.fetcher.close()


async def test_closing_ends_the_question_and_nobody_asks_again(
    upstream: Upstream, site: Site
) -> None:
    site.publish()
    gate = upstream.hold(path_of(PAYLOAD))
    catalog = await site.start()
    waiting = [asyncio.create_task(ask(catalog)) for _ in range(3)]
    await gate.reached()
    await site.stop(catalog)
    assert await asyncio.gather(*waiting) == [None, None, None]
    assert await ask(catalog) is None
    assert len(site.asked) == 1
    assert not catalog._lookups.asking


async def test_closing_at_once_after_a_question_leaves_nothing_behind(site: Site) -> None:
    site.publish()
    catalog = await site.start()
    await catalog.look_up(APP, BOARD, VERSION, PIN, "", 0.0)
    await site.stop(catalog)
    await ask(catalog)
    assert site.asked == []


# Paths


async def test_an_unknown_path_is_nothing(site: Site) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    assert catalog.package(f"{VERSION}-00000000", PAYLOAD) is None
    assert catalog.package(release.id, "other.gz") is None
    assert catalog.layout_file("arm64-usr", VERSION, PAYLOAD) is None
    assert catalog.layout_file(BOARD, "1.0.0", PAYLOAD) is None
    assert catalog.layout_file(BOARD, VERSION, "other.gz") is None


async def test_what_was_replaced_stays_for_a_week_after_its_last_use(
    site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    old = await offered(catalog)
    await offered(catalog, "azure")
    clock.later = 6 * DAY
    assert catalog.package(old.id, PAYLOAD) is not None
    for day in (12, 14):
        clock.later = day * DAY
        await ask(catalog)
        await quiet(catalog)
        kept = [item.release.id for item in load(site.path).releases]
        assert (old.id in kept) == (day == 12)
    assert catalog.package(old.id, PAYLOAD) is None


async def test_a_version_that_no_machine_asks_about_any_more_is_let_go(
    site: Site, clock: SetClock
) -> None:
    for version in (VERSION, "3815.2.2", "3815.2.3"):
        site.publish(version=version)
    catalog = await site.start()
    idle = await offered(catalog)
    lively = await offered(catalog, rule=Pin("3815.2.2"))
    clock.later = 8 * DAY
    assert catalog.known(APP, BOARD, "3815.2.2") is not None
    assert catalog.current() == [lively]
    newest = await offered(catalog, rule=Pin("3815.2.3"))
    assert [item.release for item in load(site.path).releases] == [lively, newest]
    assert catalog.known(APP, BOARD, VERSION) is None
    assert await offered(catalog) == idle


async def test_a_layout_path_is_the_newest_release_that_has_the_file(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    await offered(catalog, "azure")
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)

    async def publish(body: bytes) -> None:
        upstream.put(path_of(PAYLOAD), body)
        clock.later += FRESH
        await ask(catalog, "azure")
        await quiet(catalog)
        file = catalog.layout_file(BOARD, VERSION, PAYLOAD)
        assert file is not None
        assert file.sha256 == sha256(body)

    upstream.remove(path_of("oem-azure.gz"))
    await publish(b"other bytes")
    azure = catalog.layout_file(BOARD, VERSION, "oem-azure.gz")
    assert azure is not None
    assert azure.sha256 == sha256(AZURE)
    site.publish(["oem-azure.gz"])
    await publish(BODY)


async def test_a_layout_path_that_got_other_bytes_is_known_as_changed_for_a_day(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    await offered(catalog)
    await offered(catalog, "azure")
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    upstream.put(path_of(PAYLOAD), b"other bytes")
    clock.later += FRESH
    await ask(catalog)
    await quiet(catalog)
    assert catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    assert not catalog.changed_recently(BOARD, VERSION, "oem-azure.gz")
    clock.later += DAY - 60
    assert catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    clock.later += 120
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)


async def test_who_can_wait_has_a_release_from_where_it_is_since_the_restart(site: Site) -> None:
    site.publish()
    catalog = await site.start()
    before = await offered(catalog)
    await site.stop(catalog)
    site.upstream.put(f"/moved{path_of(PAYLOAD)}", BODY)
    site._server = ReleaseServer(site.fetcher, f"{site.upstream.origin}/moved")
    catalog = await site.start()
    at_once = await ask(catalog, wait=0.0)
    assert at_once is not None
    assert at_once.release == before
    after = await offered(catalog)
    assert (after.id, after.payload.url) == (
        before.id,
        site.upstream.url(f"/moved{path_of(PAYLOAD)}"),
    )
