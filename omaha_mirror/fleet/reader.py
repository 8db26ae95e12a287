"""Queries of the fleet. Every answer has a size limit and a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, Select, Table, func, select, union_all
from sqlalchemy.exc import SQLAlchemyError

from omaha_mirror.aio.workers import WORK
from omaha_mirror.fleet.database import Database
from omaha_mirror.fleet.listing import (
    MAX_PER_PAGE,
    MachineQuery,
    Page,
    Trait,
    count_machines,
    find_machines,
    machine_of,
)
from omaha_mirror.fleet.model import FAILURES, FETCHED, MAX_TEXT, DecisionRun, Event, Machine
from omaha_mirror.fleet.schema import (
    BOTH,
    MACHINE,
    REPORTS,
    STRETCHES,
    census,
    checkins,
    events,
    latest,
    machines,
    transfers,
)
from omaha_mirror.omaha import EventResult
from omaha_mirror.text import printable

_TROUBLE = (*sorted(FAILURES), EventResult.UPDATE_DEFERRED)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class FleetUnavailable(Exception):
    """The database does not answer; the message says why."""


@dataclass(frozen=True, slots=True)
class History:
    """A machine with its stored decisions and events, the newest first."""

    machine: Machine
    stretches: tuple[DecisionRun, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """An event, and its machine as of now."""

    machine: Machine
    event: Event


@dataclass(frozen=True, slots=True)
class Census:
    """Numbers of machines by version or state. `time` is the first second of the last hour that counts."""

    time: int
    machines: dict[str, int]


@dataclass(frozen=True, slots=True)
class Served:
    """The transfers of one day. `day` is its first second, UTC; for the other fields see `Transfer`."""

    day: int
    cache_status: str
    requests: int
    bytes: int
    seconds: float


class FleetReader:
    """Reads what a `FleetRecorder` wrote.

    Args:
        database: its database.
        timeout: seconds that an answer may take.

    Raises:
        FleetUnavailable: by every method, when the database fails or takes too long.
    """

    def __init__(self, database: Database, *, timeout: float = 10.0) -> None:
        self._database = database
        self._timeout = timeout

    async def machines(self, query: MachineQuery) -> Page:
        """A page of the machines that match."""
        async with self._connection() as connection:
            return await find_machines(connection, query)

    async def machine(self, machineid: str, app_id: str | None = None) -> History | None:
        """One machine; of several applications on it the one with the last request, unless one is named."""
        wanted = [machines.c.machineid == printable(machineid, MAX_TEXT)]
        if app_id is not None:
            wanted.append(machines.c.app_id == printable(app_id, MAX_TEXT))
        newest: Select[Any] = (
            select(*MACHINE, latest.c.answered)
            .select_from(BOTH)
            .where(*wanted)
            .order_by(latest.c.last_seen.desc())
            .limit(1)
        )
        async with self._connection() as connection:
            row = (await connection.execute(newest)).one_or_none()
            if row is None:
                return None
            machine = machine_of(row)
            stretches = await _ring(connection, checkins, machine.id, machine.stretches, STRETCHES)
            reported = await _ring(connection, events, machine.id, machine.reports, REPORTS)
        runs = list(map(_stretch, stretches))
        if runs and machine.asked:
            runs[0] = replace(runs[0], last=row.answered, count=machine.asked)
        return History(machine, tuple(runs), tuple(map(_event, reported)))

    async def count_by(self, trait: Trait, *, seen_since: float = 0.0) -> dict[str, int]:
        """Numbers of machines with a request since then by a trait, the most frequent value first."""
        return (await self.counts(trait, seen_since=seen_since))[trait]

    async def counts(self, *traits: Trait, seen_since: float = 0.0) -> dict[Trait, dict[str, int]]:
        """The same by several traits, at the cost of one."""
        async with self._connection() as connection:
            return await count_machines(connection, traits, seen_since)

    async def census(
        self, kind: Literal["version", "state"], since: float, step: int = 3600
    ) -> tuple[Census, ...]:
        """Numbers of machines by version or state over time, oldest first: of each `step` seconds the last hour."""
        c = census.c
        last = (
            select(func.max(c.hour)).where(c.kind == kind, c.hour >= since).group_by(c.hour // step)
        )
        counted = (
            select(c.hour, c.value, c.machines)
            .where(c.kind == kind, c.hour.in_(last))
            .order_by(c.hour)
        )
        hours: dict[int, Census] = {}
        async with self._connection() as connection:
            for hour, value, count in await connection.execute(counted):
                hours.setdefault(hour, Census(hour, {})).machines[value] = count
        return tuple(hours.values())

    async def recent_errors(self, limit: int = 50) -> tuple[MachineEvent, ...]:
        """The newest failures and deferrals, rollbacks among them."""
        limit = min(limit, MAX_PER_PAGE)
        newest = union_all(
            *(
                select(
                    select(events)
                    .where(events.c.eventresult == result)
                    .order_by(events.c.time.desc())
                    .limit(limit)
                    .subquery()
                )
                for result in _TROUBLE
            )
        ).subquery()
        errors = (
            select(*MACHINE, *(newest.c[name].label(f"event_{name}") for name in _EVENT))
            .select_from(BOTH)
            .join(newest, newest.c.machine == machines.c.id)
            .order_by(newest.c.time.desc())
            .limit(limit)
        )
        async with self._connection() as connection:
            rows = (await connection.execute(errors)).all()
        return await WORK.call(lambda: tuple(map(_machine_event, rows)))

    async def served(self, since: float = 0.0) -> tuple[Served, ...]:
        """The transfers of each day by cache status, oldest first."""
        t = transfers.c
        days = (
            select(
                t.day,
                t.cache_status,
                *(func.sum(c).label(c.name) for c in (t.requests, t.bytes, t.seconds)),
            )
            .where(t.day >= since, t.cache_status != FETCHED)
            .group_by(t.day, t.cache_status)
            .order_by(t.day, t.cache_status)
        )
        async with self._connection() as connection:
            found = await connection.execute(days)
            return tuple(
                Served(r.day, r.cache_status, int(r.requests), int(r.bytes), r.seconds)
                for r in found
            )

    async def fetched(self, since: float = 0.0) -> dict[int, int]:
        """Bytes from upstream, by the first second of each day, UTC."""
        t = transfers.c
        days = (
            select(t.day, func.sum(t.bytes))
            .where(t.day >= since, t.cache_status == FETCHED)
            .group_by(t.day)
        )
        async with self._connection() as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(days)}

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(self._timeout):
                async with self._database.connect() as connection:
                    yield connection
        except TimeoutError:
            raise FleetUnavailable(
                f"the fleet database did not answer within {self._timeout:g} seconds"
            ) from None
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[:1]
            raise FleetUnavailable(f"the fleet database fails: {' '.join(reason)}") from error


async def _ring(
    connection: AsyncConnection, table: Table, machine: int, written: int, slots: int
) -> list[Row[Any]]:
    """A machine's rows, the newest first."""
    rows = await connection.execute(select(table).where(table.c.machine == machine))
    return sorted(rows, key=lambda row: (written - 1 - row.slot) % slots)


def _stretch(row: Row[Any]) -> DecisionRun:
    return DecisionRun(**{name: row._mapping[name] for name in _STRETCH})


def _event(row: Row[Any]) -> Event:
    return Event(**{name: row._mapping[name] for name in _EVENT})


def _machine_event(row: Row[Any]) -> MachineEvent:
    event = Event(**{name: row._mapping[f"event_{name}"] for name in _EVENT})
    return MachineEvent(machine_of(row), event)


_STRETCH = tuple(DecisionRun.__dataclass_fields__)
_EVENT = tuple(Event.__dataclass_fields__)
