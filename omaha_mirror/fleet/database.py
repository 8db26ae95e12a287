"""The fleet database: SQLite by default, PostgreSQL by URL, through one set of statements.

A statement has a deadline on both. SQLite runs in WAL mode: readers never wait for the writer, and a process that is
killed loses only what it had not committed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6F6D616861
"""Of PostgreSQL: two mirrors that start together do not both make the tables."""
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


class BadDatabaseURL(ValueError):
    """The URL names no database that can be used; the message says what is expected."""


class BadDatabase(Exception):
    """The database cannot be used by this version; the message says what to do."""


class Database:
    """Connections to one database. Nothing is opened before the first use.

    Args:
        url: `sqlite:////absolute/path` or `postgresql://user:password@host/name`.
        timeout: seconds that connecting, waiting for a lock, or one statement may take.

    Raises:
        BadDatabaseURL: it is neither.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._url = read_url(url)
        self._timeout = timeout
        self.engine = create_async_engine(self._url, connect_args=self._args(), pool_pre_ping=True)
        if self._url.drivername == DRIVERS["sqlite"]:
            event.listen(self.engine.sync_engine, "connect", _set_up_sqlite)
        self.where = self._url.render_as_string(hide_password=True)

    async def migrate(self) -> None:
        """Make the tables, or bring those of an older version up to date. In a worker: it takes a while.

        Raises:
            BadDatabase: they are of a newer version.
        """
        if self._url.drivername == DRIVERS["sqlite"]:
            await asyncio.to_thread(self._migrate_sqlite)
        else:
            await asyncio.to_thread(asyncio.run, self._migrate_postgresql())

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    def _migrate_sqlite(self) -> None:
        url = self._url.set(drivername="sqlite")
        engine = create_engine(url, connect_args={"timeout": self._timeout}, poolclass=NullPool)
        event.listen(engine, "connect", _set_up_sqlite)
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # else each statement commits itself
            _upgrade(connection)

    async def _migrate_postgresql(self) -> None:
        engine = create_async_engine(self._url, connect_args=self._args(), poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            await connection.run_sync(_upgrade)

    def _args(self) -> dict[str, Any]:
        """What the driver calls its deadlines."""
        if self._url.drivername == DRIVERS["sqlite"]:
            return {"timeout": self._timeout}
        return {"timeout": self._timeout, "command_timeout": self._timeout}


def read_url(text: str) -> URL:
    """The URL with the driver that is used for it. Raises BadDatabaseURL."""
    expected = "expected sqlite:////absolute/path or postgresql://user@host/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadDatabaseURL(f"the fleet database is no URL: {expected}") from None
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise BadDatabaseURL(f"no fleet database can be {url.drivername!r}: {expected}")
    if driver == DRIVERS["sqlite"] and url.database in (None, "", ":memory:"):
        raise BadDatabaseURL(f"the fleet database needs a file: {expected}")
    url = url.set(drivername=driver)
    if "sslmode" in url.query:  # libpq's name; asyncpg calls it ssl
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(
            ["sslmode"]
        )
    return url


def _set_up_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _upgrade(connection: Connection) -> None:
    # Half a second of imports, in the worker that needs them.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise BadDatabase(
            "its tables were made by a newer omaha-mirror: run that one, or name another database"
        ) from error
