"""Without the inputs of decisions, which nothing ever filled."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Drop them."""
    op.drop_column("checkins", "inputs")
