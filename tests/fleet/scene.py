"""Machines for tests, and a fleet store to tell of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from omaha_mirror.fleet import CheckIn, Database, EventReport, FleetReader, History, Transfer, store
from omaha_mirror.fleet.model import Item, State, after_checkin, after_event, tidy
from tests.support.mirror import Mirror

APP = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
NOW = 1_790_000_000.0
"""An hour and a day have begun before it: 2026-09-21 14:13:20 UTC."""
HOUR, DAY = 3600, 86400

ASK = CheckIn(
    time=NOW,
    address="192.0.2.7",
    machineid="0123456789abcdef0123456789abcdef",
    app_id=APP,
    version="3815.2.0",
    alias="web-1",
    board="amd64-usr",
    track="stable",
    oem="azure",
    reason="up-to-date",
)
PING = replace(ASK, reason="")
OFFERED = replace(ASK, reason="offered", offered="3815.2.1", detail="offered the release")
HELD = replace(ASK, reason="held", detail="the track is held")
GOT = Transfer(
    time=NOW, release="3815.2.1-aa", name="update.gz", bytes=100, seconds=0.5, cache_status="hit"
)


def event(
    eventtype: int,
    eventresult: int,
    errorcode: int | None = None,
    previousversion: str | None = None,
    asked: CheckIn = ASK,
) -> EventReport:
    return EventReport(
        time=asked.time,
        address=asked.address,
        machineid=asked.machineid,
        app_id=asked.app_id,
        version=asked.version,
        eventtype=eventtype,
        eventresult=eventresult,
        errorcode=errorcode,
        previousversion=previousversion,
    )


def everywhere(text: str) -> CheckIn:
    """A machine that says this wherever it can say anything."""
    return replace(
        ASK,
        address=text,
        machineid=text,
        alias=text,
        board=text,
        track=text,
        oem=text,
        oemversion=text,
        version=text,
        alephversion=text,
        reason=text,
    )


def machine(number: int) -> CheckIn:
    """One of many."""
    return replace(ASK, machineid=f"{number:032x}", alias=f"node-{number}")


def state_of(facts: Iterable[CheckIn | EventReport]) -> State:
    """The state after a sequence of check-ins and events, oldest first."""
    state = State.UNDEFINED
    for fact in facts:
        if isinstance(fact, CheckIn):
            state = after_checkin(state, fact)
        else:
            state = after_event(state, fact)
    return state


async def recorded(mirror: Mirror) -> None:
    """Wait until a mirror's database has its tables and all that was said."""
    recorder = mirror.service.fleet_feed.recorder
    recorder.put(GOT)
    await recorder.flush()


@dataclass(frozen=True)
class Site:
    database: Database
    reader: FleetReader

    async def write(self, *items: Item) -> None:
        await store.write(self.database, [tidy(item) for item in items])

    async def history(self, machineid: str = ASK.machineid) -> History:
        found = await self.reader.machine(machineid)
        assert found is not None
        return found
