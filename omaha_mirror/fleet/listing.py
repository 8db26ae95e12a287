"""Pages of machines, and their numbers by state, version, track or board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import Column, ColumnElement, Row, Text, case, exists, func, literal, or_, select

from omaha_mirror.aio.workers import WORK
from omaha_mirror.fleet.model import MAX_TEXT, Machine, State
from omaha_mirror.fleet.schema import BOTH, MACHINE, latest, machines
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.text import printable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MAX_PER_PAGE = 1000
MAX_DISTINCT = 200
"""Values of a column that are counted one by one."""
MAX_GROUPS = 2000
"""Combinations of values that are counted, the most frequent first: machines can claim any."""
FEW = 500
"""Up to so many matches, an index finds them faster than a scan of the rows in their order."""

Trait = Literal["state", "version", "track", "board"]
"""The columns to count by."""
TRAITS: tuple[Trait, ...] = get_args(Trait)
Sort = Literal[
    "last_seen", "first_seen", "version", "state", "track", "machineid", "alias", "address"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineQuery:
    """The machines of a page, and their order.

    Attributes:
        search: part of the machine id, the alias or the address; ASCII letters in any case.
        state, version, track, board: equal to this; None for any.
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


async def find_machines(connection: AsyncConnection, query: MachineQuery) -> Page:
    """A page of the machines that match."""
    total, wanted = await _matching(connection, _conditions(query, connection.dialect.name))
    column = await _order(connection, query.sort)
    key = latest.c.id if query.sort == "last_seen" else machines.c.id
    up = column.asc(), key.asc()
    down = column.desc(), key.desc()
    order, reverse = (down, up) if query.descending else (up, down)
    per_page = min(max(query.per_page, 1), MAX_PER_PAGE)
    before = min((max(query.page, 1) - 1) * per_page, total)
    count = min(per_page, total - before)
    after = total - before - count
    # Only ids are sorted, and only from the nearer end to the page.
    ids = select(key).where(*wanted).limit(count)
    if wanted and query.sort == "last_seen":
        ids = ids.select_from(BOTH)
    if before <= after:
        ids = ids.order_by(*order).offset(before)
    else:
        ids = ids.order_by(*reverse).offset(after)
    page = select(*MACHINE).select_from(BOTH).where(machines.c.id.in_(ids)).order_by(*order)
    rows = (await connection.execute(page)).all()
    return Page(await WORK.call(lambda: tuple(map(machine_of, rows))), total)


async def count_machines(
    connection: AsyncConnection, traits: Sequence[Trait], since: float
) -> dict[Trait, dict[str, int]]:
    """Numbers of machines with a request since then by each trait, the most frequent value first."""
    # In the order of the index `machines_counts`: nothing is sorted.
    by = [machines.c[trait] for trait in TRAITS[: max(map(TRAITS.index, traits)) + 1]]
    groups = (
        select(func.count().label("machines"), *by)
        .where(exists().where(latest.c.id == machines.c.id, latest.c.last_seen >= since))
        .group_by(*by)
        .order_by(func.count().desc(), *by)
        .limit(MAX_GROUPS)
    )
    counted: dict[Trait, Counter[str]] = {trait: Counter() for trait in traits}
    for group in (await connection.execute(groups)).mappings():
        for trait, counter in counted.items():
            counter[group[trait]] += group["machines"]
    return {trait: _most_frequent(counter) for trait, counter in counted.items()}


def machine_of(row: Row[Any]) -> Machine:
    """A machine from a row with all its columns, and perhaps others after them."""
    values: dict[str, Any] = dict(zip(_MACHINE, row, strict=False))
    values["state"] = State(row.state)
    return Machine(**values)


def _conditions(query: MachineQuery, dialect: str) -> list[ColumnElement[bool]]:
    c = machines.c
    exact = {
        "state": query.state,
        "version": query.version,
        "track": query.track,
        "board": query.board,
    }
    found = [
        c[name] == printable(value, MAX_TEXT) for name, value in exact.items() if value is not None
    ]
    if text := printable(query.search, MAX_TEXT):
        found.append(_contains((c.machineid, c.alias, c.address), text, dialect))
    return found


def _contains(columns: Sequence[Column[str]], text: str, dialect: str) -> ColumnElement[bool]:
    """Whether one of the columns contains the text, which has no line break, in any case of ASCII letters."""
    if dialect == "sqlite":
        return or_(*(column.contains(text, autoescape=True) for column in columns))
    # PostgreSQL's ILIKE takes thrice as long, more so with other letters.
    lines = func.concat_ws("\n", *columns, type_=Text)
    return func.strpos(func.lower(lines.collate("C")), func.lower(literal(text).collate("C"))) > 0


async def _matching(
    connection: AsyncConnection, wanted: list[ColumnElement[bool]]
) -> tuple[int, list[ColumnElement[bool]]]:
    """The number of matching machines, and the fastest condition for them."""
    if wanted:
        few = select(machines.c.id).where(*wanted).limit(FEW + 1)
        ids = (await connection.scalars(few)).all()
        if len(ids) <= FEW:
            return len(ids), [machines.c.id.in_(ids)]
    count = select(func.count()).select_from(machines).where(*wanted)
    return (await connection.execute(count)).scalar_one(), wanted


async def _order(connection: AsyncConnection, sort: Sort) -> ColumnElement[Any]:
    """The order of a column; versions by their rank, invalid ones below all others."""
    if sort != "version":
        return latest.c.last_seen if sort == "last_seen" else machines.c[sort]
    known = (await count_machines(connection, ("version",), 0.0))["version"]
    ranks = {text: rank for rank, text in enumerate(sorted(known, key=_rank))}
    return case(ranks, value=machines.c.version, else_=-1) if ranks else machines.c.version


def _rank(text: str) -> tuple[bool, Any]:
    try:
        return True, Version.parse(text)
    except BadVersion:
        return False, text


def _most_frequent(counted: Mapping[str, int]) -> dict[str, int]:
    found = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return dict(found[:MAX_DISTINCT])


_MACHINE = tuple(column.name for column in MACHINE)
