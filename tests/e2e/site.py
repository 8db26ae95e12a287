"""A site: machines with real clients, and a mirror that asks a scripted Nebraska."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.omaha import (
    Client,
    Machine,
    NoUpdate,
    Offer,
    Package,
    Request,
    parse_response,
    serialise_request,
)
from tests.observability.exposed import value
from tests.support.mirror import PAYLOAD, Mirror, Site, mirror_in_process
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE

OLD = "3000.0.0"
FLOORS = ("3200.0.0", "3400.0.0")
TARGET = "3815.2.1"
STEPS = (*FLOORS, TARGET)


def body(version: str, size: int = 40_000) -> bytes:
    """Made up; another one for each version."""
    return random.Random(version).randbytes(size)


def three_steps(nebraska: Nebraska, track: str = "stable") -> None:
    """A track with two floors and a target."""
    for version in STEPS:
        nebraska.publish(version, {PAYLOAD: body(version)})
    nebraska.group(track, TARGET, floors=FLOORS)


def before(nebraska: Nebraska, **changes: Any) -> dict[str, Any]:
    """A config that follows a Nebraska on every track; changes as for `settings`."""
    upstream = {"omaha_url": nebraska.url, **changes.pop("upstream", {})}
    return {"default_track": "follow", "tracks": {}, **changes, "upstream": upstream}


@asynccontextmanager
async def following(directory: Path, nebraska: Nebraska, **changes: Any) -> AsyncIterator[Mirror]:
    """A mirror in this process; see `before`."""
    origin = nebraska.upstream.origin
    async with mirror_in_process(directory, origin, **before(nebraska, **changes)) as mirror:
        yield mirror


async def until(mirror: Mirror, holds: Callable[[], bool]) -> None:
    """Keep the mirror's loop busy until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await mirror.round_trips(1)


def count(mirror: Mirror, name: str, **labels: str) -> float:
    """A number of the metrics' exposition."""
    found = value(mirror.service.metrics, name, **labels)
    assert found is not None, f"there is no series {name} {labels}"
    return found


async def channel(mirror: Mirror, track: str = "stable") -> ChannelStatus:
    """What the mirror tells of a track."""
    [found] = [c for c in await mirror.service.warm_up.channels() if c.track == track]
    return found


class Box:
    """A machine, which fails a test on everything that its update client would take for an error."""

    def __init__(self, site: Site, version: str = OLD, number: int = 1, **who: Any) -> None:
        self.site = site
        machine = Machine(version=version, machineid=f"{number:032x}", **who)
        self.client = Client(machine)
        self.requests: list[Request] = []

    async def check(self) -> Offer | NoUpdate:
        request = self.client.check()
        self.requests.append(request)
        answer = await self.site.post(serialise_request(request))
        return self.client.receive(answer.status, answer.body)

    async def offer(self) -> Offer:
        """The offer that a check must get."""
        found = await self.check()
        assert isinstance(found, Offer)
        return found

    async def nothing(self) -> NoUpdate:
        """That nothing is offered, as a check must be told."""
        found = await self.check()
        assert isinstance(found, NoUpdate), found
        return found

    async def report(self, request: Request) -> None:
        self.requests.append(request)
        answer = await self.site.post(serialise_request(request))
        assert answer.status == 200
        [app] = parse_response(answer.body).apps
        assert [event.status for event in app.events] == ["ok"] * len(request.apps[0].events)

    async def download(self, offer: Offer, package: Package | None = None) -> bytes:
        """The payload, or another package, proven as a machine proves it."""
        package = package or offer.packages[0]
        answer = await self.site.get(urlsplit(offer.url_of(package)).path)
        assert (answer.status, len(answer.body)) == (200, package.size)
        sha256 = offer.sha256 if package is offer.packages[0] else package.hash_sha256
        assert sha256 is not None
        assert hashlib.sha256(answer.body).digest() == sha256.raw
        return answer.body

    async def update(self) -> str:
        """Check, download, apply and reboot; the version that runs then."""
        offer = await self.offer()
        await self.report(self.client.download_started())
        await self.download(offer)
        await self.report(self.client.download_finished())
        await self.report(self.client.update_applied())
        self.client.rebooted(offer.version)
        return offer.version
