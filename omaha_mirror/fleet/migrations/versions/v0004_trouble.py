"""An index that has the newest events of each result together."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make it."""
    op.create_index("events_result", "events", ["eventresult", "time"])
