"""A mirror before a mirror: a region's before a site's."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from omaha_mirror.cache import Limits
from omaha_mirror.cache.events import Opened
from omaha_mirror.omaha import parse_request
from tests.e2e.site import FLOORS, OLD, STEPS, TARGET, Box, body, channel, following, three_steps
from tests.support.mirror import PAYLOAD, Mirror, mirror_in_process
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import Talk, request
from tests.support.upstream import Stall, Upstream

SIZE = 400_000
HOLD_BACK = 64 * 1024
FIRST = FLOORS[0]
FILE = f"/amd64-usr/{FIRST}/{PAYLOAD}"
PAYLOAD_BODY = body(FIRST, SIZE)


@dataclass(frozen=True)
class Chain:
    """Upstream, near and far mirror, and a machine behind the far one."""

    nebraska: Nebraska
    near: Mirror
    far: Mirror

    @property
    def origin(self) -> Upstream:
        return self.nebraska.upstream


@asynccontextmanager
async def far_from(near: Mirror, directory: Path, **changes: Any) -> AsyncIterator[Mirror]:
    origin = f"http://{near.address}"
    upstream = {"omaha_url": f"{origin}/v1/update/", **changes.pop("upstream", {})}
    async with mirror_in_process(
        directory,
        origin,
        **{"default_track": "follow", "tracks": {}, "upstream": upstream, **changes},
    ) as far:
        yield far


@pytest.fixture
async def chain(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Chain]:
    """Both hold back, see a stall soon and trickle soon."""
    nebraska = Nebraska(upstream)
    three_steps(nebraska)
    nebraska.publish(FIRST, {PAYLOAD: PAYLOAD_BODY, "oem-azure.gz": b"azure" * 100})
    changes = {"cache": {"hold_back": HOLD_BACK}, "upstream": {"stall_timeout": "200ms"}}
    async with (
        following(tmp_path / "near", nebraska, **changes) as near,
        far_from(near, tmp_path / "far", **changes) as far,
    ):
        for mirror in (near, far):
            mirror.service.cache.limits = replace(Limits(), trickle_seconds=0.05)
        yield Chain(nebraska, near, far)


@contextmanager
def dialled(talk: Talk) -> Iterator[Talk]:
    try:
        yield talk
    finally:
        talk.close()


async def test_the_far_mirror_learns_every_step_and_upstream_sees_the_near_one_alone(
    chain: Chain,
) -> None:
    box = Box(chain.far)
    assert [await box.update() for _ in STEPS] == [*STEPS]
    await box.nothing()
    assert [step.version for step in (await channel(chain.far)).steps] == [*STEPS]
    assert [step.floor for step in (await channel(chain.far)).steps] == [True, True, False]
    asked = [parse_request(entry.body).apps[0].machineid for entry in chain.origin.requests(PATH)]
    assert len({*asked}) == 1
    assert chain.nebraska.open_grants() == []


async def test_a_new_release_passes_through_both(chain: Chain) -> None:
    box = Box(chain.far, version=TARGET)
    await box.nothing()
    newer = "3900.0.0"
    chain.nebraska.publish(newer, {PAYLOAD: body(newer)})
    chain.nebraska.groups[box.client.machine.appid, "stable", "amd64-usr"].version = newer
    for mirror in (chain.near, chain.far):
        await mirror.service.warm_up.sync()
    assert await box.update() == newer


async def test_each_fetches_once_and_bytes_pass_through_while_the_origin_still_sends(
    chain: Chain,
) -> None:
    offer = await Box(chain.far).offer()
    chain.origin.throttle(400_000)
    chain.origin.fault(FILE, Stall(at=SIZE // 2, seconds=20, times=1))
    with dialled(await Talk.dial(chain.far.address)) as talk:
        await talk.send(request("GET", urlsplit(offer.urls[0]).path))
        head = await talk.head()
        assert (head.status, head.length) == (200, SIZE)
        got = await talk.read(1000)
        assert not any(entry.whole for entry in chain.origin.requests(FILE, "GET"))
        got += await talk.read(SIZE - 1000)
    assert got == PAYLOAD_BODY
    assert chain.origin.bytes_sent(FILE) == SIZE
    await settled(chain.near)
    await settled(chain.far)
    assert chain.near.service.observer.totals.fetched == SIZE
    assert chain.far.service.observer.totals.fetched == SIZE
    # What was on its way on the connection that lost is all that goes between the two twice.
    assert SIZE <= chain.near.service.observer.totals.served <= 1.1 * SIZE


async def test_a_line_that_pauses_costs_no_machine_its_connection(chain: Chain) -> None:
    """The whole line: a second connection stands still as well."""
    offer = await Box(chain.far).offer()
    gate = chain.origin.hold(FILE, at=SIZE // 2)
    with dialled(await Talk.dial(chain.far.address)) as talk:
        await talk.send(request("GET", urlsplit(offer.urls[0]).path))
        await talk.head()
        got = await talk.read(SIZE // 2 - HOLD_BACK)
        await chain.origin.until(lambda: len(chain.origin.requests(FILE, "GET")) >= 2)
        gate.open()
        got += await talk.read(SIZE - len(got))
    assert got == PAYLOAD_BODY
    # The near one sees the stall and asks again; the far one knows that it is a mirror whose silence it hears.
    assert sum(isinstance(event, Opened) for event in chain.near.events) == 1


async def test_a_cold_package_is_looked_up_through_both_without_a_download(chain: Chain) -> None:
    offer = await Box(chain.far, oem="azure").offer()
    assert [package.name for package in offer.packages] == [PAYLOAD, "oem-azure.gz"]
    assert chain.origin.bytes_sent(FILE) == 0
    assert chain.near.events == []


async def test_both_go_on_without_the_origin(chain: Chain, tmp_path: Path) -> None:
    box = Box(chain.far)
    offer = await box.offer()
    assert await box.download(offer) == PAYLOAD_BODY
    await chain.origin.refuse()
    chain.origin.cut_all()
    for mirror in (chain.near, chain.far):
        await mirror.service.warm_up.sync()
    assert (await channel(chain.near)).trouble
    assert not (await channel(chain.far)).trouble
    assert await box.offer() == offer
    # A third one, new, learns from the near one what that one knows.
    async with far_from(chain.near, tmp_path / "third") as third:
        box = Box(third, version=OLD, number=3)
        assert await box.download(await box.offer()) == PAYLOAD_BODY
    await chain.origin.listen()


async def settled(mirror: Mirror) -> None:
    await mirror.until(lambda: bool(mirror.ended()) and mirror.active == 0)
