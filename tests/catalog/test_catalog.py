"""The catalog before a real release server: who is asked, when, and what stays servable."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from omaha_mirror.catalog import Known, Reason, Release, Rule, Wanted, decide
from omaha_mirror.catalog.question import FRESH, MAX_NAMES, RETRY
from omaha_mirror.catalog.state import Kept, load, save
from omaha_mirror.omaha import AppRequest
from tests.catalog.scene import (
    APP,
    AZURE,
    BOARD,
    BODY,
    DAY,
    HOUR,
    PAYLOAD,
    PIN,
    VERSION,
    Clock,
    Site,
    ask,
    offered,
    path_of,
    quiet,
    sha256,
)
from tests.support.upstream import Status, Upstream


def reason(known: Known | None, oem: str = "", rule: Rule = PIN) -> Reason:
    machine = AppRequest(appid=APP, board=BOARD, version="1.0.0", oem=oem)
    return decide(machine, rule, known, app_ids=[APP]).reason


def names(release: Release) -> list[str]:
    return [file.name for file in release.files]


# Asking


async def test_nothing_is_known_before_somebody_asks(upstream: Upstream, site: Site) -> None:
    site.publish()
    assert (await site.start()).known(APP, BOARD, VERSION) is None
    assert upstream.log == []


async def test_a_held_track_asks_nobody(upstream: Upstream, site: Site) -> None:
    await (await site.start()).look_up(APP, BOARD, Rule(), "azure", 30.0)
    assert upstream.log == []


async def test_there_is_one_question_however_many_ask(upstream: Upstream, site: Site) -> None:
    site.publish(["oem-azure.gz"])
    gate = upstream.hold(path_of(PAYLOAD))
    catalog = await site.start()
    crowd = [asyncio.create_task(ask(catalog, "azure")) for _ in range(50)]
    await gate.reached()
    assert not any(task.done() for task in crowd)
    gate.open()
    told = await asyncio.gather(*crowd)
    assert {reason(known, "azure") for known in told} == {Reason.OFFERED}
    assert len(site.asked) == 1


async def test_who_comes_with_another_oem_meanwhile_waits_for_the_next_question(
    upstream: Upstream, site: Site
) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz"])
    gate = upstream.hold(path_of(PAYLOAD))
    catalog = await site.start()
    first = asyncio.create_task(ask(catalog, "azure"))
    await gate.reached()
    others = [asyncio.create_task(ask(catalog, oem)) for oem in ("ami", "qemu", "ami")]
    await asyncio.sleep(0)
    gate.open()
    assert {reason(await task, "ami") for task in others} == {Reason.OFFERED}
    await first
    assert [wanted.extras for wanted in site.asked] == [
        ("oem-azure.gz",),
        ("oem-ami.gz", "oem-azure.gz", "oem-qemu.gz"),
    ]


async def test_who_waits_waits_no_longer_than_told_and_learning_goes_on(
    upstream: Upstream, site: Site
) -> None:
    site.publish()
    gate = upstream.hold(path_of(PAYLOAD))
    catalog = await site.start()
    assert await ask(catalog, wait=0.05) is None
    assert await ask(catalog, wait=0.0) is None
    await gate.reached()
    gate.open()
    assert reason(await ask(catalog)) is Reason.OFFERED
    assert len(site.asked) == 1


async def test_who_leaves_does_not_end_the_question(upstream: Upstream, site: Site) -> None:
    site.publish()
    gate = upstream.hold(path_of(PAYLOAD))
    catalog = await site.start()
    first = asyncio.create_task(ask(catalog))
    await gate.reached()
    first.cancel()
    await asyncio.wait([first])
    gate.open()
    assert reason(await ask(catalog)) is Reason.OFFERED
    assert len(site.asked) == 1


async def test_a_release_is_on_disk_before_anybody_can_be_offered_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish()
    opened = await site.start()
    before: list[Known | None] = []

    def watched(path: Path, kept: Iterable[Kept]) -> None:
        before.append(opened.known(APP, BOARD, VERSION))
        save(path, kept)
        before.append(opened.known(APP, BOARD, VERSION))

    monkeypatch.setattr("omaha_mirror.catalog.catalog.save", watched)
    release = await offered(opened)
    assert before == [None, None]
    assert [item.release for item in load(site.path)] == [release]


# Another package set is another release


async def test_a_new_oem_makes_another_release_and_the_old_path_stays(site: Site) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    old = await offered(catalog)
    new = await offered(catalog, "azure")
    assert names(new) == [PAYLOAD, "oem-azure.gz"]
    assert new.id != old.id
    assert (await offered(catalog)).id == new.id
    file = catalog.package(old.id, PAYLOAD)
    assert file is not None
    assert file == catalog.package(new.id, PAYLOAD)
    assert catalog.package(old.id, "oem-azure.gz") is None
    assert len(site.asked) == 2


async def test_an_oem_without_a_package_makes_no_other_release(site: Site) -> None:
    site.publish()
    catalog = await site.start()
    assert (await offered(catalog)).id == (await offered(catalog, "qemu")).id
    assert len(site.asked) == 2
    await offered(catalog, "qemu")
    assert len(site.asked) == 2


async def test_the_release_does_not_depend_on_who_asked_first(site: Site, tmp_path: Path) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz", "flatcar-podman.gz"])
    named = Rule(VERSION, ("flatcar-podman.gz",))
    found = set()
    for i, order in enumerate([("azure", "ami"), ("ami", "azure")]):
        site.path = tmp_path / f"{i}.json"
        catalog = await site.start()
        for oem in order:
            await offered(catalog, oem, named if oem == "ami" else PIN)
        found.add((await offered(catalog)).id)
    assert len(found) == 1


async def test_a_package_that_one_track_misses_holds_up_that_track_only(
    site: Site, clock: Clock
) -> None:
    site.publish()
    named = Rule(VERSION, ("flatcar-podman.gz",))
    catalog = await site.start()
    for _ in range(2):
        assert reason(await ask(catalog, rule=named), rule=named) is Reason.INCOMPLETE
        assert reason(await ask(catalog)) is Reason.OFFERED
        clock.ahead += FRESH
    site.publish(["flatcar-podman.gz"])
    await ask(catalog, rule=named)
    await quiet(catalog)
    assert reason(await ask(catalog, rule=named), rule=named) is Reason.OFFERED


# Trouble and policy


async def test_an_outage_withdraws_nothing_and_is_not_asked_into_in_a_loop(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    release = await offered(catalog, "azure")
    await site.line_down()
    clock.ahead += FRESH
    for _ in range(3):
        assert (await offered(catalog, "azure")) == release
        await quiet(catalog)
    assert len(site.asked) == 2
    for _ in range(3):
        assert reason(await ask(catalog, "ami"), "ami") is Reason.WARMING
    assert len(site.asked) == 3
    clock.ahead += RETRY
    await ask(catalog, "ami")
    assert len(site.asked) == 4


async def test_trouble_with_one_package_does_not_shrink_the_release(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz"])
    catalog = await site.start()
    old = await offered(catalog, "azure")
    upstream.fault(path_of("oem-azure.gz"), Status(503))
    clock.ahead += FRESH
    await ask(catalog, "azure")
    await quiet(catalog)
    assert await offered(catalog, "azure") == old
    assert names(await offered(catalog, "ami")) == [PAYLOAD, "oem-ami.gz", "oem-azure.gz"]
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED


async def test_what_upstream_has_not_is_believed_for_an_hour(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    catalog = await site.start()
    assert reason(await ask(catalog)) is Reason.NOT_RELEASED
    site.publish()
    clock.ahead = HOUR - 60
    assert reason(await ask(catalog)) is Reason.NOT_RELEASED
    await quiet(catalog)
    assert len(site.asked) == 1
    clock.ahead = HOUR + 1
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.OFFERED


async def test_after_an_outage_upstream_is_asked_again_soon(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish()
    await site.line_down()
    catalog = await site.start()
    assert reason(await ask(catalog)) is Reason.UNREACHABLE
    await upstream.listen()
    assert reason(await ask(catalog)) is Reason.UNREACHABLE
    assert len(site.asked) == 1
    clock.ahead = RETRY + 1
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.OFFERED


async def test_a_withdrawn_release_is_offered_no_more_and_stays_servable(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    upstream.remove(path_of(PAYLOAD))
    clock.ahead += FRESH
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.NOT_RELEASED
    assert catalog.current() == []
    catalog = await site.restart(catalog)
    assert catalog.known(APP, BOARD, VERSION) is None
    assert catalog.package(release.id, PAYLOAD) is not None


async def test_made_up_oems_cost_a_bounded_number_of_names_and_keep_nobody_out_for_ever(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz"])
    catalog = await site.start()
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED
    for i in range(MAX_NAMES - 1):
        await catalog.look_up(APP, BOARD, PIN, f"x{i}", 0.0)
    await quiet(catalog)
    await offered(catalog, "x1")
    count = len(site.asked)
    for i in range(MAX_NAMES, 2 * MAX_NAMES):
        assert reason(await ask(catalog, f"x{i}"), f"x{i}") is Reason.WARMING
    assert reason(await ask(catalog, "ami"), "ami") is Reason.WARMING
    assert len(site.asked) == count
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED
    clock.ahead += FRESH
    assert reason(await ask(catalog, "ami"), "ami") is Reason.OFFERED
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED
    assert max(len(wanted.extras) for wanted in site.asked) <= MAX_NAMES


async def test_a_defect_in_learning_is_logged_and_tried_again_later(
    site: Site, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def broken(wanted: Wanted) -> Known:
        nonlocal calls
        calls += 1
        raise RuntimeError("a defect")

    with monkeypatch.context() as defect:
        defect.setattr(site, "learn", broken)
        catalog = await site.start()
        for _ in range(3):
            assert reason(await ask(catalog)) is Reason.WARMING
    assert calls == 1
    assert "a defect" in caplog.text
    clock.ahead = RETRY
    await ask(catalog)
    assert calls == 2


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
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    await site.line_down()
    clock.ahead = 30 * DAY
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


async def test_a_damaged_file_is_put_aside_and_all_is_learnt_anew(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.publish()
    site.path.write_text('{"format": 1, "rel')
    catalog = await site.start()
    assert site.path.with_suffix(".damaged").read_text() == '{"format": 1, "rel'
    assert str(site.path) in caplog.text
    release = await offered(catalog)
    assert [item.release for item in load(site.path)] == [release]


async def test_uses_are_kept_over_a_restart_and_cost_no_write(site: Site, clock: Clock) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    written = site.path.stat()
    clock.ahead = 0.9 * FRESH
    for _ in range(1000):
        assert (await offered(catalog)) == release
        catalog.offered(release)
        assert catalog.package(release.id, PAYLOAD)
        assert catalog.layout_file(BOARD, VERSION, PAYLOAD)
    assert (site.path.stat().st_ino, site.path.stat().st_mtime_ns) == (
        written.st_ino,
        written.st_mtime_ns,
    )
    await site.stop(catalog)
    [item] = load(site.path)
    assert item.last_used == pytest.approx(clock.time(), abs=60)


async def test_a_full_disk_stops_no_update_and_is_tried_again(
    site: Site, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    site.publish()
    opened = await site.start()
    with monkeypatch.context() as disk:
        disk.setattr("omaha_mirror.catalog.catalog.save", full)
        release = await offered(opened)
    assert "No space left on device" in caplog.text
    assert load(site.path) == []
    clock.ahead += FRESH
    await ask(opened)
    await quiet(opened)
    assert [item.release for item in load(site.path)] == [release]


async def test_another_address_of_the_same_release_counts_at_once(
    upstream: Upstream, site: Site, clock: Clock
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
    assert all(task.done() for task in catalog._asking.values())


async def test_closing_at_once_after_a_question_leaves_nothing_behind(site: Site) -> None:
    site.publish()
    catalog = await site.start()
    await catalog.look_up(APP, BOARD, PIN, "", 0.0)
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
    site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    old = await offered(catalog)
    await offered(catalog, "azure")
    clock.ahead = 6 * DAY
    assert catalog.package(old.id, PAYLOAD) is not None
    for day in (12, 14):
        clock.ahead = day * DAY
        await ask(catalog)
        await quiet(catalog)
        kept = [item.release.id for item in load(site.path)]
        assert (old.id in kept) == (day == 12)
    assert catalog.package(old.id, PAYLOAD) is None


async def test_a_version_that_no_machine_asks_about_any_more_is_let_go(
    site: Site, clock: Clock
) -> None:
    for version in (VERSION, "3815.2.2", "3815.2.3"):
        site.publish(version=version)
    catalog = await site.start()
    idle = await offered(catalog)
    lively = await offered(catalog, rule=Rule("3815.2.2"))
    clock.ahead = 8 * DAY
    assert catalog.known(APP, BOARD, "3815.2.2") is not None
    assert catalog.current() == [lively]
    newest = await offered(catalog, rule=Rule("3815.2.3"))
    assert [item.release for item in load(site.path)] == [lively, newest]
    assert catalog.known(APP, BOARD, VERSION) is None
    assert await offered(catalog) == idle


async def test_a_layout_path_is_the_newest_release_that_has_the_file(
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    await offered(catalog, "azure")
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)

    async def publish(body: bytes) -> None:
        upstream.put(path_of(PAYLOAD), body)
        clock.ahead += FRESH
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
    upstream: Upstream, site: Site, clock: Clock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    await offered(catalog)
    await offered(catalog, "azure")
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    upstream.put(path_of(PAYLOAD), b"other bytes")
    clock.ahead += FRESH
    await ask(catalog)
    await quiet(catalog)
    assert catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    assert not catalog.changed_recently(BOARD, VERSION, "oem-azure.gz")
    clock.ahead += DAY - 60
    assert catalog.changed_recently(BOARD, VERSION, PAYLOAD)
    clock.ahead += 120
    assert not catalog.changed_recently(BOARD, VERSION, PAYLOAD)
