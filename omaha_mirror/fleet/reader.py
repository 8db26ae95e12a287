"""What can be asked about the fleet. Every answer has a size limit and a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Table, case, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from omaha_mirror.fleet.database import Database
from omaha_mirror.fleet.model import FETCHED, Event, Machine, State, Stretch, inert
from omaha_mirror.fleet.schema import (
    REPORTS,
    STRETCHES,
    census,
    checkins,
    events,
    machines,
    transfers,
)
from omaha_mirror.fleet.states import FAILURES
from omaha_mirror.omaha import BadVersion, EventResult, Version

MAX_PER_PAGE = 1000
MAX_DISTINCT = 200
"""Values of a column that are told apart."""
FEW = 500
"""Machines up to which it is quicker to find all that match in an index than to look through the rows in their order."""

Column = Literal["version", "state", "track", "board"]
Sort = Literal[
    "last_seen", "first_seen", "version", "state", "track", "machineid", "alias", "address"
]


class FleetUnavailable(Exception):
    """The database does not answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineQuery:
    """Which machines, in which order.

    Attributes:
        search: part of the machine id, the alias or the address, in any case.
        state, version, track, board: just that; None for any.
        page: the first is 1.
        per_page: at most 1000.
    """

    search: str = ""
    state: State | None = None
    version: str | None = None
    track: str | None = None
    board: str | None = None
    sort: Sort = "last_seen"
    descending: bool = True
    page: int = 1
    per_page: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Some machines of `total`."""

    machines: tuple[Machine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class History:
    """A machine with what is remembered of it; the newest comes first."""

    machine: Machine
    stretches: tuple[Stretch, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """An event and the machine it came from, as it is now."""

    machine: Machine
    event: Event


@dataclass(frozen=True, slots=True)
class Census:
    """How many machines there were of each version or state. `time` is the first second of the last hour that counts."""

    time: int
    machines: dict[str, int]


@dataclass(frozen=True, slots=True)
class Served:
    """What was sent on one day. `day` is its first second, UTC; for the other fields see `Transfer`."""

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
        wanted = _conditions(query, self._database.engine.dialect.name)
        per_page = min(max(query.per_page, 1), MAX_PER_PAGE)
        async with self._connection() as connection:
            total, wanted = await _matching(connection, wanted)
            order = await _order(connection, query.sort)
            found = await connection.execute(
                select(machines)
                .where(*wanted)
                .order_by(order.desc() if query.descending else order.asc(), machines.c.id)
                .limit(per_page)
                .offset((max(query.page, 1) - 1) * per_page)
            )
            return Page(tuple(map(_machine, found)), total)

    async def machine(self, machineid: str, app_id: str | None = None) -> History | None:
        """One machine; of several applications on it the one last heard of, unless one is named."""
        wanted = [machines.c.machineid == inert(machineid)]
        if app_id is not None:
            wanted.append(machines.c.app_id == inert(app_id))
        newest = select(machines).where(*wanted).order_by(machines.c.last_seen.desc()).limit(1)
        async with self._connection() as connection:
            row = (await connection.execute(newest)).one_or_none()
            if row is None:
                return None
            machine = _machine(row)
            stretches = await _ring(connection, checkins, machine.id, machine.stretches, STRETCHES)
            reported = await _ring(connection, events, machine.id, machine.reports, REPORTS)
            return History(machine, tuple(map(_stretch, stretches)), tuple(map(_event, reported)))

    async def count_by(self, column: Column, *, seen_since: float = 0.0) -> dict[str, int]:
        """Machines by a column, the most frequent value first, of those heard of since then."""
        async with self._connection() as connection:
            return await _count_by(connection, column, seen_since)

    async def census(
        self, kind: Literal["version", "state"], since: float, step: int = 3600
    ) -> tuple[Census, ...]:
        """Machines by version or state over time, oldest first: of each `step` seconds the last hour counted."""
        counted = (
            select(census)
            .where(census.c.kind == kind, census.c.hour >= since)
            .order_by(census.c.hour)
        )
        steps: dict[int, Census] = {}
        async with self._connection() as connection:
            for row in await connection.execute(counted):
                if (known := steps.get(row.hour // step)) is None or known.time < row.hour:
                    known = steps[row.hour // step] = Census(row.hour, {})
                known.machines[row.value] = row.machines
        return tuple(steps.values())

    async def recent_errors(self, limit: int = 50) -> tuple[MachineEvent, ...]:
        """The newest failures and deferrals, rollbacks among them."""
        errors = (
            select(machines, *(events.c[name].label(f"event_{name}") for name in _EVENT))
            .join(events, events.c.machine == machines.c.id)
            .where(events.c.eventresult.in_((*FAILURES, EventResult.UPDATE_DEFERRED)))
            .order_by(events.c.time.desc())
            .limit(min(limit, MAX_PER_PAGE))
        )
        async with self._connection() as connection:
            return tuple(map(_machine_event, await connection.execute(errors)))

    async def served(self, since: float = 0.0) -> tuple[Served, ...]:
        """What was sent each day and how it met the cache, oldest first."""
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
        """Bytes that came over the line, by the first second of each day, UTC."""
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
            async with (
                asyncio.timeout(self._timeout),
                self._database.engine.connect() as connection,
            ):
                yield connection
        except TimeoutError:
            raise FleetUnavailable(
                f"the fleet database did not answer within {self._timeout:g} seconds"
            ) from None
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[:1]
            raise FleetUnavailable(f"the fleet database fails: {' '.join(reason)}") from error


def _conditions(query: MachineQuery, dialect: str) -> list[ColumnElement[bool]]:
    c = machines.c
    exact = {
        "state": query.state,
        "version": query.version,
        "track": query.track,
        "board": query.board,
    }
    found = [c[name] == inert(value) for name, value in exact.items() if value is not None]
    if text := inert(query.search):
        # SQLite's LIKE takes no account of case, and is faster without being told so.
        for_case = "contains" if dialect == "sqlite" else "icontains"
        names = (c.machineid, c.alias, c.address)
        found.append(or_(*(getattr(name, for_case)(text, autoescape=True) for name in names)))
    return found


async def _matching(
    connection: AsyncConnection, wanted: list[ColumnElement[bool]]
) -> tuple[int, list[ColumnElement[bool]]]:
    """How many machines match, and the quickest condition to find them by."""
    if wanted:
        few = select(machines.c.id).where(*wanted).limit(FEW + 1)
        ids = (await connection.scalars(few)).all()
        if len(ids) <= FEW:
            return len(ids), [machines.c.id.in_(ids)]
    count = select(func.count()).select_from(machines).where(*wanted)
    return (await connection.execute(count)).scalar_one(), wanted


async def _order(connection: AsyncConnection, sort: Sort) -> ColumnElement[Any]:
    """What to order by; versions as versions, with those that cannot be read below all others."""
    if sort != "version":
        return machines.c[sort]
    known = await _count_by(connection, "version", 0.0)
    ranks = {text: rank for rank, text in enumerate(sorted(known, key=_rank))}
    return case(ranks, value=machines.c.version, else_=-1) if ranks else machines.c.version


def _rank(text: str) -> tuple[bool, Any]:
    try:
        return True, Version.parse(text)
    except BadVersion:
        return False, text


async def _count_by(connection: AsyncConnection, column: Column, since: float) -> dict[str, int]:
    counted = (
        select(machines.c[column], func.count())
        .where(machines.c.last_seen >= since)
        .group_by(machines.c[column])
        .order_by(func.count().desc(), machines.c[column])
        .limit(MAX_DISTINCT)
    )
    return {row[0]: row[1] for row in await connection.execute(counted)}


async def _ring(
    connection: AsyncConnection, table: Table, machine: int, written: int, slots: int
) -> list[Row[Any]]:
    """A machine's rows, the one written last first."""
    rows = await connection.execute(select(table).where(table.c.machine == machine))
    return sorted(rows, key=lambda row: (written - 1 - row.slot) % slots)


def _machine(row: Row[Any]) -> Machine:
    return Machine(**{**row._mapping, "state": State(row.state)})


def _stretch(row: Row[Any]) -> Stretch:
    return Stretch(
        **{name: row._mapping[name] for name in _STRETCH},
        inputs=tuple(json.loads(row.inputs).items()),
    )


def _event(row: Row[Any]) -> Event:
    return Event(**{name: row._mapping[name] for name in _EVENT})


def _machine_event(row: Row[Any]) -> MachineEvent:
    values = dict(row._mapping)
    event = Event(**{name: values.pop(f"event_{name}") for name in _EVENT})
    return MachineEvent(Machine(**{**values, "state": State(row.state)}), event)


_STRETCH = ("first", "last", "count", "version", "track", "reason", "offered", "detail")
_EVENT = tuple(Event.__dataclass_fields__)
