"""What there is to see: a mirror, its admin listener, a track with a release, and machines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from omaha_mirror.config import Address
from omaha_mirror.fleet import CheckIn, Transfer, store
from omaha_mirror.fleet.model import Item, tidy
from omaha_mirror.web.admin.app import AdminApp, admin_routes
from omaha_mirror.web.server import Listener
from tests.e2e.site import Box, body, following
from tests.fleet.scene import ASK, event, recorded
from tests.support.mirror import PAYLOAD, Mirror
from tests.support.nebraska import Nebraska

TOKEN = "0123456789abcdef"
VERSION = "3815.2.1"
SIZE = 3_000_000
PATH = f"/update/amd64-usr/{VERSION}/{PAYLOAD}"
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class Scene:
    mirror: Mirror
    nebraska: Nebraska
    address: Address

    @property
    def url(self) -> str:
        """Where the status page is."""
        return f"http://{self.address}"

    def box(self, number: int = 1, alias: str = "", **who: str) -> Box:
        return Box(self.mirror, number=number, machinealias=alias, **who)

    async def write(self, *items: Item) -> None:
        """Put news into the database as if they had come in at their time."""
        await recorded(self.mirror)
        await store.write(self.mirror.service.fleet_feed._database, [tidy(item) for item in items])


@asynccontextmanager
async def scene(directory: Path, nebraska: Nebraska, **changes: object) -> AsyncIterator[Scene]:
    nebraska.publish(VERSION, {PAYLOAD: body(VERSION, SIZE)})
    nebraska.group("stable", VERSION)
    async with following(directory, nebraska, **changes) as mirror:
        address = Address("127.0.0.1", 0)
        listener = Listener(AdminApp(admin_routes(mirror.service), TOKEN, [address]))
        [taken] = await listener.start([address])
        yield Scene(mirror, nebraska, taken)
        await listener.stop()


async def a_week(site: Scene, now: float) -> None:
    """Sixty machines that moved from one version to the next in a week, with what went wrong on the way."""
    await recorded(site.mirror)
    database = site.mirror.service.fleet_feed._database
    begin = int(now // HOUR) * HOUR - 7 * DAY
    for hour in range(0, 7 * 24, 3):
        time = begin + hour * HOUR
        machines = [one(number, hour) for number in range(60)]
        news: list[Item] = [replace(machine, time=time) for machine in machines]
        news += [
            Transfer(
                time=time,
                release=f"{VERSION}-aa",
                name=PAYLOAD,
                bytes=400_000_000,
                seconds=4.0,
                cache_status="hit",
            )
        ]
        await store.write(database, [tidy(item) for item in news])
        await store.upkeep(database, time, 90 * DAY)
    last = 7 * 24
    news = [
        event(3, 0, 268435466, asked=replace(one(7, last), time=now - 500)),
        replace(one(8, last), time=now - 60),
        event(3, 2, None, "3760.2.0", asked=replace(one(9, last), time=now - 9000)),
        event(3, 0, 44, asked=replace(one(11, last), time=now - 90000)),
    ]
    await store.write(database, [tidy(item) for item in news])


def one(number: int, hour: int) -> CheckIn:
    """A machine as it was at an hour of that week."""
    updated = hour > number * 2
    held = number % 9 == 4
    asked = replace(
        ASK,
        machineid=f"{number:032x}",
        alias=f"rack{number // 12}-node{number % 12:02}",
        address=f"192.0.2.{number + 10}",
        version=VERSION if updated and not held else "3602.2.3" if held else "3760.2.0",
        track="lts" if held else "stable",
    )
    if held:
        return replace(asked, reason="held", detail="the track is held")
    if not updated:
        return replace(asked, reason="offered", offered=VERSION, detail="offered the release")
    return asked
