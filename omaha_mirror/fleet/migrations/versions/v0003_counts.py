"""An index that has the machines in the groups in which they are counted."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make it; the one by time needs no more than that."""
    op.drop_index("machines_last_seen", "machines")
    op.create_index("machines_last_seen", "machines", ["last_seen"])
    op.create_index(
        "machines_counts", "machines", ["state", "version", "track", "board", "last_seen"]
    )
