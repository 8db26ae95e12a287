"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "machines",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("machineid", sa.Text, nullable=False),
        sa.Column("app_id", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("board", sa.Text, nullable=False),
        sa.Column("track", sa.Text, nullable=False),
        sa.Column("oem", sa.Text, nullable=False),
        sa.Column("oemversion", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("alephversion", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("errorcode", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("offered", sa.Text),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("stretches", sa.BigInteger, nullable=False),
        sa.Column("reports", sa.BigInteger, nullable=False),
    )
    op.create_index("machines_search", "machines", ["machineid", "alias", "address"])
    op.create_index("machines_last_seen", "machines", ["last_seen"])
    op.create_table(
        "checkins",
        sa.Column("machine", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", sa.Float, nullable=False),
        sa.Column("last", sa.Float, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("track", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("offered", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("machine", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("eventtype", sa.BigInteger),
        sa.Column("eventresult", sa.BigInteger),
        sa.Column("errorcode", sa.BigInteger),
        sa.Column("previousversion", sa.Text),
        sa.Column("version", sa.Text, nullable=False),
    )
    op.create_index("events_time", "events", ["time"])
    op.create_table(
        "transfers",
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("release", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("cache_status", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
    )
    op.create_table(
        "census",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("machines", sa.Integer, nullable=False),
    )
