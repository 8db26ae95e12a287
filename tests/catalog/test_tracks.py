"""The catalog behind a Nebraska: what is learnt of a track is settled, offered, kept, and taken back."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from omaha_mirror.catalog import (
    Catalog,
    Follow,
    Hold,
    LookupRequest,
    LookupResult,
    Pin,
    Reason,
    Relay,
    Rule,
)
from omaha_mirror.catalog.catalog_file import load
from omaha_mirror.catalog.followed import FollowPlan, Inquiry
from omaha_mirror.catalog.known_releases import MAX_UNUSED
from omaha_mirror.omaha import AppRequest, Response
from omaha_mirror.policy.decide import Decision, decide
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.identity import lasting_id
from omaha_mirror.upstream.omaha_server import OmahaServer, question
from tests.catalog.scene import APP, AZURE, BOARD, BODY, DAY, PAYLOAD, Site, names, release
from tests.support.clock import SetClock
from tests.support.nebraska import PATH, Nebraska

FOLLOW = Follow()
FLOOR, MIDDLE, TARGET, NEXT = "3033.2.4", "3510.2.0", "3815.2.1", "3975.2.0"


class Mirror:
    """A catalog that follows a Nebraska, and machines that ask it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.nebraska = Nebraska(site.upstream)
        for version in (FLOOR, MIDDLE, TARGET, NEXT):
            self.nebraska.publish(version, {PAYLOAD: BODY, "oem-azure.gz": AZURE})
        self.group = self.nebraska.group("stable", TARGET, floors=[FLOOR, MIDDLE])
        self.catalog: Catalog

    async def start(self) -> None:
        server = OmahaServer(self.site.fetcher, self.nebraska.url)

        async def ask(inquiry: Inquiry) -> Response:
            app_id, board, track, version = asdict(inquiry).values()
            machine = lasting_id(b"secret", app_id, board, track)
            return await server.ask(question(machine, app_id, board, track, version))

        allowed = AllowList(self.site.upstream.origin)
        following = FollowPlan([APP], ask, allowed.check, ["stable"])
        self.catalog = Catalog(
            self.site.learn,
            self.site.path,
            PAYLOAD,
            following,
            clock=self.site.clock,
            rng=random.Random(),
        )
        await self.catalog.start()

    async def restart(self) -> None:
        await self.catalog.close()
        await self.start()

    async def tell(
        self, version: str, oem: str = "", rule: Rule = FOLLOW, *, wait: float = 30.0
    ) -> Decision:
        """What a machine with this version is told."""
        machine = AppRequest(appid=APP, board=BOARD, track="stable", version=version, oem=oem)
        if isinstance(rule, Follow):
            await self.catalog.follow(APP, BOARD, "stable", wait)
        decision = self.decide(machine, rule)
        if decision.version is not None:
            await self.catalog.look_up(APP, BOARD, decision.version, rule, oem, wait)
            decision = self.decide(machine, rule)
        return decision

    def decide(self, machine: AppRequest, rule: Rule) -> Decision:
        steps = self.catalog.steps(APP, BOARD, machine.track, rule)
        if steps:
            self.catalog.known(APP, BOARD, steps[-1].version)
        return decide(
            machine,
            rule,
            steps,
            now=self.site.clock.time(),
            app_ids=[APP],
            nothing=self.catalog.nothing(APP, BOARD, machine.track),
        )

    async def settled(self) -> None:
        """Wait for all that is being looked up and written."""
        await self.catalog._lookups.quiet()
        while tasks := [task for task in self.catalog._storage.writer._tasks if not task.done()]:
            await asyncio.wait(tasks)
            await self.catalog._lookups.quiet()


@pytest.fixture
async def mirror(site: Site) -> AsyncIterator[Mirror]:
    mirror = Mirror(site)
    await mirror.start()
    yield mirror
    await mirror.catalog.close()


async def test_a_machine_floors_behind_steps_through_them_and_no_grant_stays_open(
    mirror: Mirror,
) -> None:
    version, way = "2905.2.0", []
    while (known := await mirror.tell(version)).release is not None:
        version = known.release.version
        way.append(version)
    assert way == [FLOOR, MIDDLE, TARGET]
    assert known.reason is Reason.UP_TO_DATE
    assert mirror.nebraska.open_grants() == []
    assert len(mirror.nebraska.instances) == 1


async def test_what_is_learnt_is_settled_before_a_machine_asks_for_it(mirror: Mirror) -> None:
    assert (await mirror.tell(TARGET)).reason is Reason.UP_TO_DATE
    await mirror.settled()
    count = len(mirror.site.asked)
    assert (await mirror.tell(FLOOR, wait=0.0)).reason is Reason.OFFERED
    assert (await mirror.tell(MIDDLE, wait=0.0)).reason is Reason.OFFERED
    assert len(mirror.site.asked) == count


async def test_a_new_version_has_the_packages_that_are_in_use_before_a_machine_asks(
    mirror: Mirror,
) -> None:
    assert (await mirror.tell(MIDDLE, "azure")).reason is Reason.OFFERED
    assert (await mirror.tell(MIDDLE, "made-up")).reason is Reason.OFFERED
    mirror.group.version = NEXT
    await mirror.catalog.sync()
    await mirror.settled()
    known = await mirror.tell(MIDDLE, "azure", wait=0.0)
    assert known.release is not None
    assert known.release.version == NEXT
    assert mirror.catalog.looked_up(known.release) == {"oem-azure.gz"}


async def test_an_offer_is_of_the_told_manifest_and_its_packages_are_here(mirror: Mirror) -> None:
    known = (await mirror.tell(MIDDLE, "azure")).release
    assert known is not None
    assert known.manifest == mirror.nebraska.releases[BOARD, TARGET].manifest
    assert names(known) == [PAYLOAD, "oem-azure.gz"]
    for name in names(known):
        assert mirror.catalog.package(known.id, name) == known.file(name)


async def test_what_upstream_withdraws_is_offered_no_more_and_stays_servable_for_a_week(
    mirror: Mirror, clock: SetClock
) -> None:
    known = (await mirror.tell(MIDDLE)).release
    assert known is not None
    mirror.group.updates_enabled = False
    await mirror.catalog.sync("stable")
    await mirror.settled()
    assert load(mirror.site.path).channels[0].channel.offered == ()
    answer = await mirror.tell(MIDDLE)
    assert answer.reason is Reason.WITHDRAWN
    assert "error-updatesDisabled" in answer.detail
    clock.later += 6 * DAY
    await mirror.restart()
    assert (await mirror.tell(MIDDLE)).reason is Reason.WITHDRAWN
    assert mirror.catalog.package(known.id, PAYLOAD) is not None


async def superseded(mirror: Mirror, clock: SetClock) -> None:
    """A month after a machine had the target, upstream has another."""
    await mirror.tell(TARGET)
    await mirror.settled()
    clock.later += 30 * DAY
    mirror.group.version = NEXT
    await mirror.catalog.sync()
    await mirror.settled()


async def test_a_version_that_a_track_leads_to_is_remembered_although_no_machine_needs_it(
    mirror: Mirror, clock: SetClock
) -> None:
    await superseded(mirror, clock)
    assert [r.version for r in mirror.catalog.current()] == [NEXT]
    await mirror.site.line_down()
    await mirror.restart()
    known = await mirror.tell("2905.2.0", wait=0.0)
    assert known.release is not None
    assert known.release.version == FLOOR
    assert mirror.catalog.package(known.release.id, PAYLOAD) is not None


async def test_a_target_that_all_machines_have_is_in_use(mirror: Mirror, clock: SetClock) -> None:
    await mirror.tell(TARGET)
    await mirror.settled()
    clock.later += 30 * DAY
    await mirror.tell(TARGET)
    assert [r.version for r in mirror.catalog.current()] == [TARGET]


async def test_a_restart_with_the_line_down_offers_what_was_known_at_once(mirror: Mirror) -> None:
    before = [await mirror.tell(version) for version in (FLOOR, MIDDLE, TARGET)]
    await mirror.site.line_down()
    await mirror.restart()
    assert [await mirror.tell(v, wait=0.0) for v in (FLOOR, MIDDLE, TARGET)] == before
    await mirror.settled()
    assert [await mirror.tell(v, wait=0.0) for v in (FLOOR, MIDDLE, TARGET)] == before


async def test_what_is_learnt_is_on_disk_without_a_close(mirror: Mirror) -> None:
    assert (await mirror.tell(MIDDLE)).reason is Reason.OFFERED
    await mirror.settled()
    state = load(mirror.site.path)
    assert {r.version for r in state.upstream} == {FLOOR, MIDDLE, TARGET}
    assert {k.release.version for k in state.releases} == {FLOOR, MIDDLE, TARGET}
    [kept] = state.channels
    assert [(s.version, s.floor) for s in kept.channel.offered] == [
        (FLOOR, True),
        (MIDDLE, True),
        (TARGET, False),
    ]


async def test_closing_ends_a_walk(mirror: Mirror) -> None:
    gate = mirror.site.upstream.hold(PATH)
    waiting = asyncio.create_task(mirror.tell(MIDDLE))
    await gate.reached()
    await mirror.catalog.close()
    assert (await waiting).reason is Reason.WARMING
    assert not any(followed.active for followed in mirror.catalog._follower._followed)
    await mirror.start()


# Pins, relays and others


async def test_a_pin_uses_what_was_once_told_of_its_version_and_floors_come_first(
    mirror: Mirror, clock: SetClock
) -> None:
    await superseded(mirror, clock)
    assert mirror.catalog.known(APP, BOARD, TARGET) is None
    await mirror.restart()
    pin = Pin(TARGET)
    first = (await mirror.tell(FLOOR, rule=pin)).release
    assert first is not None
    assert first.version == MIDDLE
    sent = (await mirror.tell(MIDDLE, rule=pin)).release
    assert sent is not None
    assert sent.manifest == mirror.nebraska.releases[BOARD, TARGET].manifest
    assert (await mirror.tell(FLOOR, rule=Pin(FLOOR))).reason is Reason.UP_TO_DATE


async def test_what_upstream_told_one_machine_is_settled_like_all_else(mirror: Mirror) -> None:
    mirror.site.publish()
    sent = release()
    own = replace(sent, urls={PAYLOAD: mirror.site.upstream.url(f"/{BOARD}/{TARGET}/{PAYLOAD}")})
    mirror.catalog.record_upstream(own)
    await mirror.catalog.look_up(APP, BOARD, TARGET, Relay(), "", 30.0)
    step = mirror.catalog.step(APP, BOARD, TARGET)
    assert (step.version, step.known.release) == (TARGET, own)
    assert mirror.catalog.step(APP, BOARD, NEXT).known == LookupResult()


async def test_a_release_told_again_after_long_is_servable(mirror: Mirror, clock: SetClock) -> None:
    mirror.site.publish()
    url = mirror.site.upstream.url(f"/{BOARD}/{TARGET}/{PAYLOAD}")
    sent = replace(release(), urls={PAYLOAD: url})
    for poll_interval in (None, 4000):
        again = replace(sent, check=replace(sent.check, poll_interval=poll_interval))
        mirror.catalog.record_upstream(again)
        await mirror.settled()
        assert mirror.catalog.step(APP, BOARD, TARGET).known.release == again
        clock.later += 8 * DAY
    assert mirror.catalog.package(sent.id, PAYLOAD) is not None


async def test_no_other_rule_has_steps(mirror: Mirror) -> None:
    await mirror.tell(TARGET)
    for rule in (Hold(), Relay()):
        assert mirror.catalog.steps(APP, BOARD, "stable", rule) == ()


async def test_a_release_told_anew_while_it_is_looked_up_is_looked_up_again(
    mirror: Mirror,
) -> None:
    gate = mirror.site.upstream.hold(f"/{BOARD}/{TARGET}/{PAYLOAD}")
    waiting = asyncio.create_task(mirror.tell(MIDDLE))
    await gate.reached()
    mirror.nebraska.publish(TARGET, {PAYLOAD: b"other bytes"})
    await mirror.catalog.sync()
    gate.open()
    await waiting
    await mirror.settled()
    known = (await mirror.tell(MIDDLE)).release
    assert known is not None
    assert known.payload.size == len(b"other bytes")


async def test_releases_that_no_track_leads_to_any_more_are_bounded(tmp_path: Path) -> None:
    async def unknown(wanted: LookupRequest) -> LookupResult:
        return LookupResult(reason=Reason.NOT_RELEASED)

    catalog = Catalog(unknown, tmp_path / "catalog.json", PAYLOAD, rng=random.Random())
    await catalog.start()
    for i in range(MAX_UNUSED + 10):
        catalog.record_upstream(release(version=f"{i}.0", learnt=float(i)))
    await catalog.close()
    known = load(tmp_path / "catalog.json").upstream
    assert {r.learnt for r in known} == set(range(10, MAX_UNUSED + 10))


# Operators


async def test_operators_see_each_channel(mirror: Mirror) -> None:
    assert await mirror.catalog.channels(lambda step: step) == []
    await mirror.tell(MIDDLE)
    await mirror.settled()
    [status] = await mirror.catalog.channels(lambda step: step)
    assert (status.app_id, status.board, status.track) == (APP, BOARD, "stable")
    assert [(s.version, s.floor, s.state) for s in status.steps] == [
        (FLOOR, True, Reason.OFFERED),
        (MIDDLE, True, Reason.OFFERED),
        (TARGET, False, Reason.OFFERED),
    ]
    for when in (status.answered, status.walked, status.asked):
        assert when == pytest.approx(time.time(), abs=60)
    assert (status.reason, status.detail, status.trouble) == (Reason.OFFERED, "", "")
    assert json.loads(json.dumps(asdict(status)))["steps"][2]["version"] == TARGET
    mirror.site.upstream.answer(PATH, lambda _: b"<html>")
    await mirror.catalog.sync()
    [status] = await mirror.catalog.channels(lambda step: step)
    assert "not the response of an Omaha server" in status.trouble
    assert len(status.steps) == 3
    mirror.nebraska.answer()
    mirror.group.trouble = "error-noPackageFound"
    await mirror.catalog.sync("stable")
    [status] = await mirror.catalog.channels(lambda step: step)
    assert (status.steps, status.reason, status.trouble) == ((), Reason.WITHDRAWN, "")
    assert "error-noPackageFound" in status.detail
