"""Writes to the fleet database: batches, the census, and the deletion of old rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Table,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from omaha_mirror.aio.clock import BUILT, SKEW
from omaha_mirror.fleet.database import Database
from omaha_mirror.fleet.model import Item
from omaha_mirror.fleet.reducer import DAY, Row, keyed, reduce, repeated
from omaha_mirror.fleet.schema import (
    BOTH,
    STRETCHES,
    census,
    checkins,
    events,
    latest,
    machines,
    transfers,
)
from omaha_mirror.omaha import EventType

HOUR = 3600
ACTIVE = DAY
"""Seconds since its last request within which a machine counts in the census."""
MAX_VALUES = 30
"""Versions in an hour's census: machines can claim any."""
MAX_MACHINES = 200_000
"""Rows in `machines`: any client can invent machines."""


async def write(database: Database, items: Sequence[Item]) -> None:
    """Write a batch: all of it, or nothing if it raises."""
    await database.transact(partial(_apply, items=items))


async def upkeep(database: Database, now: float, retention: float) -> None:
    """Count the machines for this hour's census, and delete rows older than `retention` seconds."""

    def work(connection: Connection) -> None:
        _count(connection, now)
        _sweep(connection, now - retention)

    await database.transact(work)


async def bound(database: Database) -> None:
    """Delete the machines beyond `MAX_MACHINES`."""
    await database.transact(_bound)


async def redate(database: Database, now: float) -> None:
    """Correct times of a wrong clock to now: those in the future, and those before this program existed."""

    def work(connection: Connection) -> None:
        for table, names in _TIMES.items():
            for column in (table.c[name] for name in names):
                wrong = (column > now + SKEW) | (column < BUILT)
                connection.execute(update(table).where(wrong).values({column: now}))
        connection.execute(delete(census).where(census.c.hour > now))
        days = connection.execute(
            delete(transfers).where(transfers.c.day > now).returning(*transfers.c)
        )
        today = int(now // DAY) * DAY
        for row in days.mappings().all():
            _put(connection, transfers, [{**row, "day": today}])

    await database.transact(work)


_TIMES = {
    machines: ("first_seen", "since"),
    latest: ("last_seen", "answered"),
    checkins: ("first", "last"),
    events: ("time",),
}


def _apply(connection: Connection, items: Sequence[Item]) -> None:
    news = keyed(items)
    keys = {key for key, _ in news}
    stored = connection.execute(select(latest).where(latest.c.id.in_(keys))).all()
    again = repeated(stored, news)
    _put(connection, latest, again)
    keys -= {row["id"] for row in again}
    if rest := [(key, item) for key, item in news if key in keys]:
        _change(connection, rest)


def _change(connection: Connection, news: Sequence[tuple[int, Item]]) -> None:
    """Write items that change more than counts."""
    wanted = machines.c.id.in_({key for key, _ in news})
    found = connection.execute(select(machines, *_LATEST).select_from(BOTH).where(wanted))
    names = tuple(found.keys())
    known = {row.id: dict(zip(names, row, strict=True)) for row in found.all()}
    changes = reduce(known, news)
    _put(connection, machines, changes.machines.values())
    _put(connection, latest, changes.machines.values())
    _put(connection, checkins, changes.checkins.values())
    _put(connection, events, changes.events.values())
    _put(connection, transfers, changes.transfers.values())
    if changes.ended:
        connection.execute(_END, list(changes.ended.values()))


_LATEST = [column for column in latest.c if not column.primary_key]
_END = (
    update(checkins)
    .where(checkins.c.machine == bindparam("of"), checkins.c.slot == bindparam("at"))
    .values(last=bindparam("last"), count=bindparam("count"))
)
AT_ONCE = 64
"""Rows of a statement, at most; a power of two."""


def _put(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Write rows unprocessed: SQLAlchemy would need as long for each as the database.

    SQLite takes many with one statement. Each has a power of two of them, so that there are few statements, which the
    driver remembers.
    """
    statement, values_of = _upsert(connection.dialect, table)
    left = list(map(values_of, rows))
    if left and connection.dialect.name != "sqlite":
        connection.exec_driver_sql(statement, left)
        return
    while left:
        count = min(1 << (len(left).bit_length() - 1), AT_ONCE)
        part, left = left[:count], left[count:]
        many = _many(statement, len(part[0]), count)
        connection.exec_driver_sql(many, tuple(chain.from_iterable(part)))


@cache
def _many(statement: str, columns: int, count: int) -> str:
    """The insert of one row, of so many."""
    row = f"({', '.join('?' * columns)})"
    return statement.replace(row, ", ".join([row] * count), 1)


@cache
def _upsert(dialect: Dialect, table: Table) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """An insert that replaces the row with the same key, or adds to it for transfers; and a row's values for it."""
    new: Callable[[Table], Any] = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    statement = new(table)
    values = {
        column.name: column + statement.excluded[column.name]
        if table is transfers
        else statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    compiled = statement.on_conflict_do_update(
        index_elements=table.primary_key, set_=values
    ).compile(dialect=dialect)
    return str(compiled), itemgetter(*compiled.positiontup)


def _count(connection: Connection, now: float) -> None:
    hour = int(now // HOUR) * HOUR
    connection.execute(delete(census).where(census.c.hour == hour))
    for column in (machines.c.version, machines.c.state):
        counted = (
            select(literal(hour), literal(column.name), column, func.count())
            .select_from(BOTH)
            .where(latest.c.last_seen >= now - ACTIVE)
            .group_by(column)
            .order_by(func.count().desc())
            .limit(MAX_VALUES)
        )
        connection.execute(
            insert(census).from_select(["hour", "kind", "value", "machines"], counted)
        )


def _sweep(connection: Connection, oldest: float) -> None:
    _forget(connection, select(latest.c.id).where(latest.c.last_seen < oldest))
    current = exists().where(
        machines.c.id == checkins.c.machine,
        (machines.c.stretches - 1) % STRETCHES == checkins.c.slot,
        latest.c.id == machines.c.id,
        latest.c.asked > 0,
        latest.c.answered >= oldest,
    )
    for table, condition in (
        (checkins, (checkins.c.last < oldest) & ~current),
        (events, events.c.time < oldest),
        (transfers, transfers.c.day < oldest - DAY),
        (census, census.c.hour < oldest),
    ):
        connection.execute(delete(table).where(condition))


def _bound(connection: Connection) -> None:
    """Delete machines beyond `MAX_MACHINES`: those of the lowest `_standing`, of these the longest silent ones."""
    surplus = (connection.execute(select(func.count(machines.c.id))).scalar() or 0) - MAX_MACHINES
    if surplus > 0:
        order = _standing(), latest.c.last_seen, latest.c.id
        ids = select(latest.c.id).select_from(BOTH)
        _forget(connection, ids.order_by(*order).limit(surplus))


def _standing() -> ColumnElement[int]:
    """How likely a row is a real machine: 2 after a day of requests, 0 after one request.

    A client can invent machines by the thousand; to keep one up for a day costs more. A machine that reported a download
    counts as one that came back.
    """
    life = latest.c.last_seen - machines.c.first_seen
    downloaded = exists().where(
        events.c.machine == machines.c.id, events.c.eventtype.in_(_DOWNLOADED)
    )
    return case((life >= DAY, 2), ((life > 0) | downloaded, 1), else_=0)


_DOWNLOADED = (EventType.UPDATE_DOWNLOAD_STARTED.value, EventType.UPDATE_DOWNLOAD_FINISHED.value)


def _forget(connection: Connection, gone: Select[tuple[int]]) -> None:
    """Delete machines, by their ids, and their rows."""
    ids = connection.execute(gone).scalars().all()
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        for machine in (checkins.c.machine, events.c.machine, machines.c.id, latest.c.id):
            connection.execute(delete(machine.table).where(machine.in_(part)))
