"""The tables of the fleet database as they are created; `migrations` changes older ones, and a test compares the two.

Each machine's check-ins and events are rings: a slot is overwritten in turn, so that no machine can fill the
database, and a row that is written twice is the same row.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

STRETCHES = 50
REPORTS = 100
"""Slots of a machine's rings of different answers and of events."""

METADATA = MetaData()
NEWEST = "0006"
"""The last of `migrations`."""
VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table: which migration was the last."""
ROWID = BigInteger().with_variant(Integer, "sqlite")
"""A number that SQLite finds a row by, without an index."""


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _text_key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


machines = Table(
    "machines",
    METADATA,
    _key("id"),
    _text("machineid"),
    _text("app_id"),
    _text("address"),
    _text("alias"),
    _text("board"),
    _text("track"),
    _text("oem"),
    _text("oemversion"),
    _text("version"),
    _text("alephversion"),
    _text("state"),
    Column("errorcode", BigInteger),
    _text("reason"),
    Column("offered", Text),
    _time("first_seen"),
    _time("since"),
    _number("stretches"),
    _number("reports"),
    Index("machines_search", "machineid", "alias", "address", "id"),
    Index("machines_counts", "state", "version", "track", "board", "id"),
)
"""One row for one application of one machine: `model.Machine`, with `latest`.

Searches, and counts by a column, read only an index: the rows are ten times as large. `machines_counts` has the machines
in their groups, so that a count sorts nothing.
"""

latest = Table(
    "latest",
    METADATA,
    Column("id", ROWID, primary_key=True, autoincrement=False),
    _time("last_seen"),
    _time("answered"),
    _number("asked"),
    _number("facts"),
    Index("latest_last_seen", "last_seen"),
)
"""What each check of a machine changes, which is all that the same check again writes: a row is 30 bytes.

`answered` is the time of the last answer to a check, `facts` a hash of what is told of the last item where that was a
check, else 0: another process makes another hash. `last` and `count` of the current row in `checkins` are `answered` and
`asked`, and written there when its stretch ends.
"""

MACHINE = *machines.c, latest.c.last_seen, latest.c.asked
"""The columns of `model.Machine`."""
BOTH = machines.join(latest, latest.c.id == machines.c.id)

checkins = Table(
    "checkins",
    METADATA,
    _key("machine"),
    _key("slot"),
    _time("first"),
    _time("last"),
    _number("count"),
    _text("version"),
    _text("track"),
    _text("reason"),
    Column("offered", Text),
    _text("detail"),
)
"""`model.DecisionRun`."""

events = Table(
    "events",
    METADATA,
    _key("machine"),
    _key("slot"),
    _time("time"),
    Column("eventtype", BigInteger),
    Column("eventresult", BigInteger),
    Column("errorcode", BigInteger),
    Column("previousversion", Text),
    _text("version"),
    Index("events_time", "time"),
    Index("events_result", "eventresult", "time"),
)
"""`model.Event`. An index finds the newest of each kind of trouble among any number of other events."""

transfers = Table(
    "transfers",
    METADATA,
    _key("day"),
    _text_key("release"),
    _text_key("name"),
    _text_key("cache_status"),
    _number("requests"),
    _number("bytes"),
    _time("seconds"),
)
"""The transfers of a day; `day` is its first second, UTC."""

census = Table(
    "census",
    METADATA,
    _key("hour"),
    _text_key("kind"),
    _text_key("value"),
    Column("machines", Integer, nullable=False),
)
"""The number of machines with a version (`kind` is `version`) or state at the end of an hour; `hour` is its first second, UTC."""
