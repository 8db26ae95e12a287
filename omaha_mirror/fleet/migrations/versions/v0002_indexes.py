"""Indexes that answer searches and counts without the rows."""

from alembic import op

revision = "0002"
down_revision = "0001"

INDEXES = {
    "machines_search": ["machineid", "alias", "address", "id"],
    "machines_last_seen": ["last_seen", "version", "state", "track", "board"],
}


def upgrade() -> None:
    """Make them wider."""
    for name, columns in INDEXES.items():
        op.drop_index(name, "machines")
        op.create_index(name, "machines", columns)
