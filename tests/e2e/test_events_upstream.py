"""What upstream is told of machines on tracks that follow: as much as the config says, once, and at nobody's cost."""

import asyncio
from pathlib import Path
from typing import Any

from omaha_mirror.omaha import FLATCAR_APP_ID, Request, parse_request, serialise_request
from tests.e2e.site import FLOORS, Box, before, body, count, following
from tests.support.mirror import MirrorProcess
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

WHO: dict[str, Any] = {
    "machinealias": "rack-seven",
    "bootid": "{6a2f0b7c-3c1e-4f4e-9b60-0f5d3c0d9a11}",
}


def reports(nebraska: Nebraska) -> list[Request]:
    return [request for request in nebraska.requests if request.apps[0].events]


def kinds(requests: list[Request]) -> list[tuple[int | None, int | None]]:
    return [(e.eventtype, e.eventresult) for r in requests for e in r.apps[0].events]


UPDATE = [(3, 2), (13, 1), (14, 1), (3, 1)]
"""First contact, and an update up to the reboot."""


async def test_by_default_nothing_of_a_machine_leaves_the_site(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        box = Box(mirror, **WHO)
        await box.update()
        await mirror.service.warm_up.sync()
    assert reports(nebraska) == []
    assert all(box.client.machine.machineid.encode() not in r.body for r in upstream.log)


async def test_all_events_go_up_as_the_machine_sent_them_and_its_questions_do_not(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, upstream={"forward_events": "all"}) as mirror:
        box = Box(mirror, **WHO)
        await box.update()
        await upstream.until(lambda: len(reports(nebraska)) == len(UPDATE))
        await box.check()
        await upstream.until(lambda: len(reports(nebraska)) == len(UPDATE) + 1)
    told = reports(nebraska)
    assert kinds(told) == [*UPDATE, (3, 2)]
    assert told[1] == parse_request(serialise_request(box.requests[1]))
    assert all(request.apps[0].update_check is None for request in told)
    assert told[-1].apps[0].events[0].previousversion == "3000.0.0"
    assert nebraska.open_grants() == []


async def test_a_pseudonym_stands_for_a_machine_and_nothing_else_tells_of_it(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    boxes = []
    for _ in range(2):
        async with following(
            tmp_path, nebraska, upstream={"forward_events": "anonymous"}
        ) as mirror:
            before_ = len(reports(nebraska))
            for number in (1, 2):
                boxes.append(box := Box(mirror, number=number, **WHO))
                await box.report(box.client.failed(9))
            await upstream.until(lambda: len(reports(nebraska)) == before_ + 2)  # noqa: B023 (awaited within the round)
    ids = [request.apps[0].machineid for request in reports(nebraska)]
    assert ids[:2] == ids[2:]
    assert len({*ids}) == 2
    bodies = b"".join(entry.body for entry in upstream.requests(PATH))
    heads = "".join(str(entry.headers) for entry in upstream.requests(PATH))
    assert kinds(reports(nebraska)) == [(3, 0)] * 4
    for box in boxes:
        assert box.client.machine.machineid.encode() not in bodies
    for secret in (*WHO.values(), "machinealias", "bootid", "userid", "sessionid"):
        assert secret.encode() not in bodies
    assert "forwarded" not in heads.lower()


async def test_a_held_track_tells_nothing(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    changes = {"tracks": {"quiet": "hold"}, "upstream": {"forward_events": "all"}}
    async with following(tmp_path, nebraska, **changes) as mirror:
        quiet, loud = Box(mirror, track="quiet"), Box(mirror, number=2)
        await quiet.report(quiet.client.failed(9))
        await loud.report(loud.client.failed(9))
        await upstream.until(lambda: bool(reports(nebraska)))
    assert [r.apps[0].track for r in reports(nebraska)] == ["stable"]


async def test_an_outage_delays_no_answer_and_loses_no_event(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    async with following(tmp_path, nebraska, upstream={"forward_events": "all"}) as mirror:
        box = Box(mirror)
        offer = await box.offer()
        await upstream.until(lambda: len(reports(nebraska)) == 1)
        gate = upstream.hold(PATH)
        await box.report(box.client.download_started())
        await gate.reached()
        assert await box.download(offer) == body(FLOORS[0])
        await box.report(box.client.download_finished())
        await box.report(box.client.update_applied())
        assert (await box.offer()).version == FLOORS[0]
        assert count(mirror, "queue_items", queue="events_upstream") == 3
        gate.open()
        await upstream.until(lambda: len(reports(nebraska)) == len(UPDATE))
        assert kinds(reports(nebraska)) == UPDATE


async def test_a_killed_mirror_loses_no_event_that_was_written_down(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    config = before(nebraska, upstream={"forward_events": "all"})
    await upstream.refuse()
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        for number in range(20):
            box = Box(process, number=number)
            await box.report(box.client.failed(9))
        await until_written(tmp_path / "state" / "outbox", 20)
        late = Box(process, number=99)
        await late.report(late.client.failed(9))
        await process.kill()
    await upstream.listen()
    async with MirrorProcess(tmp_path, upstream.origin, **config) as process:
        last = Box(process, number=100)
        await last.report(last.client.failed(9))
        end = last.client.machine.machineid
        await upstream.until(lambda: any(machine == end for machine in reporters(nebraska)))
    assert [m for m in reporters(nebraska) if m not in (end, f"{99:032x}")] == [
        f"{number:032x}" for number in range(20)
    ]
    assert (FLATCAR_APP_ID, f"{5:032x}") not in nebraska.instances


def reporters(nebraska: Nebraska) -> list[str]:
    return [request.apps[0].machineid for request in reports(nebraska)]


async def until_written(outbox: Path, count: int) -> None:
    """Wait until so many requests are on the disk."""
    async with asyncio.timeout(PATIENCE):
        while _written(outbox) < count:  # noqa: ASYNC110 (another process writes)
            await asyncio.sleep(0.02)


def _written(outbox: Path) -> int:
    try:
        return "".join(map(Path.read_text, outbox.glob("*"))).count('"request"')
    except FileNotFoundError:  # a new one took its name meanwhile
        return 0
