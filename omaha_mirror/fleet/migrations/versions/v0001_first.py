"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "machines",
        _number("id"),
        *_text("machineid", "app_id", "address", "alias", "board", "track", "oem", "oemversion"),
        *_text("version", "alephversion", "state"),
        sa.Column("errorcode", sa.BigInteger),
        *_text("reason"),
        sa.Column("offered", sa.Text),
        *_times("first_seen", "last_seen", "since"),
        *_counts("asked", "stretches", "reports"),
    )
    op.create_index("machines_search", "machines", ["machineid", "alias", "address"])
    op.create_index("machines_last_seen", "machines", ["last_seen"])
    op.create_table(
        "checkins",
        _number("machine"),
        _number("slot"),
        *_times("first", "last"),
        *_counts("count"),
        *_text("version", "track", "reason"),
        sa.Column("offered", sa.Text),
        *_text("detail", "inputs"),
    )
    op.create_table(
        "events",
        _number("machine"),
        _number("slot"),
        *_times("time"),
        sa.Column("eventtype", sa.BigInteger),
        sa.Column("eventresult", sa.BigInteger),
        sa.Column("errorcode", sa.BigInteger),
        sa.Column("previousversion", sa.Text),
        *_text("version"),
    )
    op.create_index("events_time", "events", ["time"])
    _statistics()


def _statistics() -> None:
    op.create_table(
        "transfers",
        _number("day"),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("release", "name", "cache_status")
        ),
        *_counts("requests", "bytes"),
        *_times("seconds"),
    )
    op.create_table(
        "census",
        _number("hour"),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("machines", sa.Integer, nullable=False),
    )


def _number(name: str) -> "sa.Column[int]":
    """A column of the primary key."""
    return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)


def _text(*names: str) -> list["sa.Column[str]"]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _times(*names: str) -> list["sa.Column[float]"]:
    return [sa.Column(name, sa.Float, nullable=False) for name in names]


def _counts(*names: str) -> list["sa.Column[int]"]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
