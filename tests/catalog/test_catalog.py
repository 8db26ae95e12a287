"""The catalog before a real release server: who is asked and when, and what an answer changes."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.catalog import LookupRequest, LookupResult, Pin, Reason
from omaha_mirror.catalog.catalog_file import State, load, save
from omaha_mirror.catalog.version_lookup import FRESH, MAX_NAMES, RETRY
from tests.catalog.scene import (
    APP,
    BOARD,
    PAYLOAD,
    PIN,
    VERSION,
    Site,
    ask,
    names,
    offered,
    path_of,
    quiet,
    reason,
)
from tests.support.clock import SetClock
from tests.support.logs import Logs
from tests.support.upstream import Status, Upstream

AZURE_NAME = "oem-azure.gz"

# Asking


async def test_nothing_is_known_before_somebody_asks(upstream: Upstream, site: Site) -> None:
    site.publish()
    assert (await site.start()).known(APP, BOARD, VERSION) is None
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
        ("oem-ami.gz", "oem-qemu.gz"),
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
    before: list[LookupResult | None] = []

    def watched(path: Path, state: State) -> None:
        before.append(opened.known(APP, BOARD, VERSION))
        save(path, state)
        before.append(opened.known(APP, BOARD, VERSION))

    monkeypatch.setattr("omaha_mirror.catalog.catalog_file.save", watched)
    release = await offered(opened)
    assert before == [None, None]
    assert [item.release for item in load(site.path).releases] == [release]


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
    named = Pin(VERSION, ("flatcar-podman.gz",))
    found = set()
    for i, order in enumerate([("azure", "ami"), ("ami", "azure")]):
        site.path = tmp_path / f"{i}.json"
        catalog = await site.start()
        for oem in order:
            await offered(catalog, oem, named if oem == "ami" else PIN)
        found.add((await offered(catalog)).id)
    assert len(found) == 1


async def test_a_package_that_one_track_misses_holds_up_that_track_only(
    site: Site, clock: SetClock
) -> None:
    site.publish()
    named = Pin(VERSION, ("flatcar-podman.gz",))
    catalog = await site.start()
    for _ in range(2):
        assert reason(await ask(catalog, rule=named), rule=named) is Reason.INCOMPLETE
        assert reason(await ask(catalog)) is Reason.OFFERED
        clock.later += FRESH
    site.publish(["flatcar-podman.gz"])
    await ask(catalog, rule=named)
    await quiet(catalog)
    assert reason(await ask(catalog, rule=named), rule=named) is Reason.OFFERED


# Trouble and policy


async def test_an_outage_withdraws_nothing_and_is_not_asked_into_in_a_loop(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    release = await offered(catalog, "azure")
    await site.line_down()
    clock.later += FRESH
    for _ in range(3):
        assert (await offered(catalog, "azure")) == release
        await quiet(catalog)
    assert len(site.asked) == 2
    for _ in range(3):
        assert reason(await ask(catalog, "ami"), "ami") is Reason.INCOMPLETE
    assert len(site.asked) == 3
    clock.later += RETRY
    await ask(catalog, "ami")
    await quiet(catalog)
    assert len(site.asked) > 3


async def test_trouble_with_one_package_does_not_shrink_the_release(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz"])
    catalog = await site.start()
    old = await offered(catalog, "azure")
    upstream.fault(path_of("oem-azure.gz"), Status(503))
    clock.later += FRESH
    await ask(catalog, "azure")
    await quiet(catalog)
    assert await offered(catalog, "azure") == old
    assert names(await offered(catalog, "ami")) == [PAYLOAD, "oem-ami.gz", "oem-azure.gz"]
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED


async def test_what_upstream_has_not_yet_is_asked_again_within_minutes_and_ever_less_often(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    catalog = await site.start()
    for pause in (RETRY, 2 * RETRY, 4 * RETRY):
        assert reason(await ask(catalog)) is Reason.NOT_RELEASED
        await quiet(catalog)
        count = len(site.asked)
        clock.later += pause / 2
        assert reason(await ask(catalog)) is Reason.NOT_RELEASED
        await quiet(catalog)
        assert len(site.asked) == count
        clock.later += pause / 2
    site.publish()
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.OFFERED


async def test_after_an_outage_upstream_is_asked_again_soon(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish()
    await site.line_down()
    catalog = await site.start()
    assert reason(await ask(catalog)) is Reason.UNREACHABLE
    await upstream.listen()
    assert reason(await ask(catalog)) is Reason.UNREACHABLE
    assert len(site.asked) == 1
    clock.later = RETRY + 1
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.OFFERED


async def test_a_withdrawn_release_is_offered_no_more_and_stays_servable(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish()
    catalog = await site.start()
    release = await offered(catalog)
    upstream.remove(path_of(PAYLOAD))
    clock.later += FRESH
    await ask(catalog)
    await quiet(catalog)
    assert reason(await ask(catalog)) is Reason.NOT_RELEASED
    assert catalog.current() == []
    catalog = await site.restart(catalog)
    assert catalog.known(APP, BOARD, VERSION) is None
    assert catalog.package(release.id, PAYLOAD) is not None


async def test_made_up_oems_cost_one_look_each_and_keep_nobody_out(
    upstream: Upstream, site: Site, clock: SetClock
) -> None:
    site.publish(["oem-azure.gz", "oem-ami.gz"])
    catalog = await site.start()
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED
    count = len(upstream.log)
    for i in range(3 * MAX_NAMES):
        await ask(catalog, f"x{i}", wait=0.0)
    assert reason(await ask(catalog, "ami"), "ami") is Reason.OFFERED
    assert reason(await ask(catalog, "azure"), "azure") is Reason.OFFERED
    assert len(upstream.log) - count <= 2 * MAX_NAMES
    known = catalog.known(APP, BOARD, VERSION)
    assert known is not None
    assert len(known.looked_up) <= MAX_NAMES + 2


async def test_made_up_oems_take_nothing_from_a_machine_whose_oem_has_no_package(
    site: Site,
) -> None:
    site.publish()
    catalog = await site.start()
    await catalog.look_up(APP, BOARD, VERSION, PIN, "metal", 30.0, "10.0.0.1")
    for i in range(2 * MAX_NAMES):
        await catalog.look_up(APP, BOARD, VERSION, PIN, f"x{i}", 0.0, "10.6.6.6")
    await quiet(catalog)
    assert reason(catalog.known(APP, BOARD, VERSION), "metal") is Reason.OFFERED


async def test_names_that_were_made_up_are_not_asked_about_again_after_a_restart(
    upstream: Upstream, site: Site
) -> None:
    site.publish(["oem-azure.gz"])
    catalog = await site.start()
    for oem in ("azure", *(f"x{i}" for i in range(20))):
        await offered(catalog, oem)
    catalog = await site.restart(catalog)
    upstream.log.clear()
    await offered(catalog, "azure")
    await quiet(catalog)
    assert {request.path for request in upstream.log} == {
        path_of(name) for name in (PAYLOAD, f"{PAYLOAD}.sha256", AZURE_NAME, f"{AZURE_NAME}.sha256")
    }


async def test_a_defect_in_learning_is_logged_and_tried_again_later(
    site: Site, clock: SetClock, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def broken(wanted: LookupRequest) -> LookupResult:
        nonlocal calls
        calls += 1
        raise RuntimeError("a defect")

    with monkeypatch.context() as defect:
        defect.setattr(site, "learn", broken)
        catalog = await site.start()
        for _ in range(3):
            assert reason(await ask(catalog)) is Reason.WARMING
    assert calls == 1
    assert "a defect" in str(logs)
    clock.later = RETRY
    await ask(catalog)
    assert calls == 2
