"""What each check changes in a table of its own, whose rows are small."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ROWID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Move it there."""
    op.create_table(
        "latest",
        sa.Column("id", ROWID, primary_key=True, autoincrement=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.Column("answered", sa.Float, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("facts", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO latest SELECT id, last_seen, coalesce((SELECT last FROM checkins"
        " WHERE machine = machines.id AND slot = (machines.stretches - 1) % 50), last_seen),"
        " asked, 0 FROM machines"
    )
    op.create_index("latest_last_seen", "latest", ["last_seen"])
    op.drop_index("machines_last_seen", "machines")
    op.drop_index("machines_counts", "machines")
    op.drop_column("machines", "last_seen")
    op.drop_column("machines", "asked")
    op.create_index("machines_counts", "machines", ["state", "version", "track", "board", "id"])
