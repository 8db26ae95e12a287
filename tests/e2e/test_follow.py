"""Following a Nebraska: machines step through what it leads to, and it learns of nobody but the mirror."""

import asyncio
import base64
import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import AppStatus, Offer, parse_request, serialise_request
from tests.e2e.site import (
    FLOORS,
    OLD,
    STEPS,
    TARGET,
    Box,
    body,
    channel,
    count,
    following,
)
from tests.support.mirror import PAYLOAD, Mirror, real_payload
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import PATIENCE, Talk, request
from tests.support.upstream import Status, Upstream

AZURE, PODMAN = "oem-azure.gz", "flatcar-podman.gz"


async def test_a_machine_three_floors_behind_steps_through_them_in_order(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        assert [await box.update() for _ in STEPS] == [*STEPS]
        await box.nothing()
        assert nebraska.open_grants() == []
        assert [upstream.bytes_sent(f"/amd64-usr/{v}/{PAYLOAD}") for v in STEPS] == [40_000] * 3
        # The one instance that upstream knows is the mirror itself, which counts in no limit.
        [instance] = nebraska.instances.values()
        assert (instance.version, instance.counts) == (TARGET, False)


async def test_without_a_release_server_a_pin_needs_what_upstream_told(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    changes = {"upstream": {"release_url": None}, "tracks": {"edge": TARGET, "far": "3999.0.0"}}
    async with following(tmp_path, nebraska, **changes) as mirror:
        assert await Box(mirror).update() == STEPS[0]
        assert (await Box(mirror, number=2, track="edge").offer()).version == STEPS[0]
        await Box(mirror, number=3, track="far", version=TARGET).nothing()
        assert (await mirror.get("/amd64-usr/3999.0.0/" + PAYLOAD)).status == 404


async def test_no_grant_is_left_open_after_a_new_release_was_learnt(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, version=TARGET)
        await box.nothing()
        nebraska.publish("3900.0.0", {PAYLOAD: body("3900.0.0")})
        nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"].version = "3900.0.0"
        await mirror.service.warm_up.sync("stable")
        assert (await box.offer()).version == "3900.0.0"
        assert nebraska.open_grants() == []


async def test_an_azure_machine_gets_its_packages_with_digests_in_the_right_encodings(
    tmp_path: Path, upstream: Upstream
) -> None:
    nebraska = Nebraska(upstream)
    files = {PAYLOAD: real_payload(), AZURE: real_payload(AZURE), PODMAN: real_payload(PODMAN)}
    nebraska.publish(TARGET, files)
    nebraska.group("stable", TARGET)
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, oem="azure")
        offer = await box.offer()
        assert [package.name for package in offer.packages] == [*files]
        for package in offer.packages:
            assert await box.download(offer, package) == files[package.name]
        answer = (await mirror.post(serialise_request(box.client.check()))).body.decode()
        for name, content in files.items():
            sha1 = base64.b64encode(hashlib.sha1(content).digest()).decode()
            assert f'name="{name}" hash="{sha1}"' in answer
            if name != PAYLOAD:
                assert f'hash_sha256="{hashlib.sha256(content).hexdigest()}"' in answer
        sha256 = base64.b64encode(hashlib.sha256(files[PAYLOAD]).digest()).decode()
        assert f'event="postinstall" sha256="{sha256}"' in answer
        for name, content in files.items():
            layout = f"/amd64-usr/{TARGET}/{name}"
            assert (await mirror.get(layout)).body == content
            sidecar = (await mirror.get(f"{layout}.sha256")).body.decode()
            assert sidecar.split() == [hashlib.sha256(content).hexdigest(), name]
            assert upstream.bytes_sent(layout) == len(content)


async def test_a_machine_without_its_own_oem_package_waits_and_others_do_not(
    tmp_path: Path, upstream: Upstream
) -> None:
    nebraska = Nebraska(upstream)
    nebraska.publish(TARGET, {PAYLOAD: body(TARGET), AZURE: b"azure" * 100})
    nebraska.group("stable", TARGET)
    upstream.remove(f"/amd64-usr/{TARGET}/{AZURE}")
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror, oem="azure").nothing()
        assert (
            count(mirror, "checks_total", decision="noupdate", reason=Reason.INCOMPLETE.value) == 1
        )
        await Box(mirror, number=2, oem="gce").offer()


@pytest.mark.parametrize(
    ("trouble", "stays"),
    [
        (AppStatus.MAX_UPDATES_PER_PERIOD_LIMIT_REACHED, True),
        (AppStatus.MAX_CONCURRENT_UPDATES_LIMIT_REACHED, True),
        (AppStatus.UPDATE_IN_PROGRESS_ON_INSTANCE, True),
        (AppStatus.MAX_TIMED_OUT_UPDATES_LIMIT_REACHED, False),
        (AppStatus.UPDATES_DISABLED, False),
        (AppStatus.NO_PACKAGE_FOUND, False),
    ],
)
async def test_limits_upstream_keep_an_offer_and_policy_takes_it_away(
    tmp_path: Path, nebraska: Nebraska, trouble: str, stays: bool
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        await box.offer()
        nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"].trouble = trouble
        await mirror.service.warm_up.sync("stable")
        if stays:
            assert (await box.offer()).version == STEPS[0]
        else:
            await box.nothing()


async def test_office_hours_upstream_hold_for_the_site(tmp_path: Path, nebraska: Nebraska) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        first = await box.offer()
        nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"].office_hours = True
        nebraska.now += timedelta(hours=9)
        await mirror.service.warm_up.sync()
        await box.nothing()
        nebraska.now += timedelta(hours=15)
        await mirror.service.warm_up.sync()
        assert await box.offer() == first


async def test_safe_mode_upstream_does_not_take_the_mirror_for_its_first_machine(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        group = nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"]
        group.safe_mode = True
        assert [await box.update() for _ in STEPS] == [*STEPS]
        nebraska.now += timedelta(hours=2)
        await mirror.service.warm_up.sync()
        assert group.updates_enabled
        await Box(mirror, number=2).offer()


async def test_updates_disabled_upstream_withdraw_the_offer_and_not_the_package(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"].updates_enabled = False
        await mirror.service.warm_up.sync()
        for number in range(3):
            await Box(mirror, number=number).nothing()
        assert await box.download(offer) == body(offer.version)
        reason = Reason.WITHDRAWN.value
        assert count(mirror, "checks_total", decision="noupdate", reason=reason) == 3


# Without upstream


async def down(upstream: Upstream) -> None:
    await upstream.refuse()
    upstream.cut_all()


async def test_an_outage_is_noticed_by_no_machine(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.catalog.follow.FIRST_RETRY", 0.01)
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        assert await box.download(offer) == body(offer.version)
        await down(upstream)
        await mirror.service.warm_up.sync()
        assert (await channel(mirror)).trouble
        asked, answered = len(upstream.log), (await channel(mirror)).answered
        for number in range(100):
            assert (await Box(mirror, number=number).offer()).version == offer.version
        assert await Box(mirror, number=200).download(offer) == body(offer.version)
        assert len(upstream.log) == asked
        assert (await channel(mirror)).answered == answered
        assert count(mirror, "upstream_errors_total", kind="omaha") >= 1
        await upstream.listen()
        await Box(mirror).offer()
        await mirror.service.warm_up.sync()
        assert not (await channel(mirror)).trouble
        assert (await channel(mirror)).answered > answered


async def test_a_check_waits_for_no_upstream_once_anything_is_known(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        await box.offer()
        gate = upstream.hold(PATH)
        syncing = asyncio.create_task(mirror.service.warm_up.sync())
        await gate.reached()
        assert (await box.offer()).version == FLOORS[0]
        assert not syncing.done()
        gate.open()
        await syncing


async def test_a_new_track_holds_its_first_check_up_for_a_moment_only(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 0.05)
    gate = upstream.hold(PATH)
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror)
        told = await box.nothing()
        assert told.poll_interval == 45 * 60
        assert count(mirror, "checks_total", decision="noupdate", reason=Reason.WARMING.value) == 1
        gate.open()
        async with asyncio.timeout(PATIENCE):
            while not (await channel(mirror)).answered:
                await mirror.round_trips(1)
        monkeypatch.setattr("omaha_mirror.policy.updatecheck.FIRST_ANSWER", 20.0)
        assert (await box.offer()).version == FLOORS[0]


async def test_upstream_that_never_answered_is_no_error_at_a_machine(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    upstream.fault(PATH, Status(503))
    async with following(tmp_path, nebraska) as mirror:
        await Box(mirror).nothing()
        reason = Reason.UNREACHABLE.value
        assert count(mirror, "checks_total", decision="noupdate", reason=reason) == 1
        upstream.heal(PATH)
        await mirror.service.warm_up.sync()
        await Box(mirror).offer()


# The crowd


async def checks(mirror: Mirror, numbers: range) -> None:
    """A check of each machine, over one connection."""
    talk = await Talk.dial(mirror.address)
    try:
        for number in numbers:
            box = Box(mirror, number=number, version=OLD)
            await talk.send(
                request("POST", "/v1/update/", {}, serialise_request(box.client.check()))
            )
            answer = await talk.answer()
            assert isinstance(box.client.receive(answer.status, answer.body), Offer)
    finally:
        talk.close()


@pytest.mark.parametrize("machines", [500, pytest.param(10_000, marks=pytest.mark.long)])
async def test_however_many_machines_check_upstream_sees_the_mirrors_own_questions(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, machines: int
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        part = machines // 4
        await asyncio.gather(*(checks(mirror, range(n * part, (n + 1) * part)) for n in range(4)))
        reason = Reason.OFFERED.value
        assert count(mirror, "checks_total", decision="offered", reason=reason) == machines
        asked = [parse_request(entry.body) for entry in upstream.requests(PATH)]
        [me] = {app.machineid for message in asked for app in message.apps}
        assert me not in {f"{number:032x}" for number in range(machines)}
        # 0.0.0 and each step, and the answer that Nebraska gives once is questioned at each.
        assert len(asked) <= 2 * (len(STEPS) + 1)
