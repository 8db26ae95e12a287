"""Alembic runs this to bring the connection's database up to date; see `database.Database.migrate`."""

from alembic import context

from omaha_mirror.fleet.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
