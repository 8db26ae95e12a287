"""The fleet database: SQLite by default, PostgreSQL by URL, through one set of statements.

A statement has a deadline on both. SQLite runs in WAL mode: readers never wait for the writer, and a process that is
killed loses only what it had not committed. One thread makes all writes to it: to hand over
each statement would cost the event loop more than the statements.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, OperationalError

from omaha_mirror.aio.workers import STATE, Workers
from omaha_mirror.fleet.schema import METADATA, NEWEST, VERSION
from omaha_mirror.state_file import set_aside

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

LOG = structlog.get_logger(__name__)
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6F6D616861
"""A lock of PostgreSQL: of two mirrors that start together only one creates the tables."""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
LOCKED = "database is locked"
"""SQLite's message for a file that another process has locked."""
AGAIN = 0.05
"""Seconds until the next try at such a file."""
CONNECTIONS = 5
"""Open at most; a query waits for a free one, which is faster than to open another for it."""
CHECKPOINT = 4000
"""Pages of SQLite's log, 16 MB, until a checkpoint: check-ins change the same pages again and again."""
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


class BadDatabaseURL(ValueError):
    """The URL names no usable database; the message says what is expected."""


class BadDatabase(Exception):
    """The database cannot be used by this version; the message says what to do."""


class Database:
    """Connections to one database. Nothing is opened before the first use.

    Args:
        url: `sqlite:////absolute/path` or `postgresql://user:password@host/name`.
        timeout: seconds that connecting, waiting for a lock, or one statement may take.

    Attributes:
        writer: for `transact`; not for the event loop.
        where: the URL with the password masked.

    Raises:
        BadDatabaseURL: it is neither.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._url = read_url(url)
        self._timeout = timeout
        secret = [key for key in self._url.query if "password" in key.lower()]
        shown = self._url.difference_update_query(secret)
        self.where = shown.render_as_string(hide_password=True)
        self._settled = asyncio.Event()
        self._settled.set()
        self._opening = asyncio.Lock()
        self._engine: AsyncEngine | None = None
        self._thread: Workers | None = None
        if self._is_file:
            self._thread = Workers(1, "the fleet database")
            file = self._url.set(drivername="sqlite")
            self.writer = _set_up(create_engine(file, connect_args=self._args()))
        else:
            self.writer = self.engine.sync_engine

    @property
    def engine(self) -> AsyncEngine:
        """For reads. The first use imports 6 MB, and takes too long for the event loop: see `connect`."""
        if self._engine is None:
            from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 (see above)

            self._engine = create_async_engine(
                self._url,
                connect_args=self._args(),
                pool_pre_ping=not self._is_file,
                pool_size=CONNECTIONS,
                max_overflow=0,
            )
            if self._is_file:
                _set_up(self._engine.sync_engine)
        return self._engine

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reads, when no migration runs."""
        await self._settled.wait()
        async with self._opening:
            if self._engine is None:
                await STATE.call(lambda: self.engine)
        async with self.engine.connect() as connection:
            yield connection

    async def migrate(self) -> None:
        """Create the tables, or migrate those of an older version. In a worker: it takes long.

        Raises:
            BadDatabase: they are of a newer version.
        """
        self._settled.clear()
        try:
            if self._thread is not None:
                await self._migrate_sqlite()
            else:
                await STATE.call(asyncio.run, self._migrate_postgresql())
        finally:
            self._settled.set()

    async def transact(self, work: Callable[[Connection], None]) -> None:
        """Run work as one transaction: all of it, or nothing if it raises.

        Where this is cancelled, work that SQLite has begun goes on to its end.
        """
        if self._thread is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._transact, work)
        else:
            async with self.engine.begin() as connection:
                await connection.run_sync(work)

    async def mend(self, error: Exception) -> bool:
        """After an error: whether it put a damaged SQLite file aside, so that a new one can be created."""
        if self._thread is None or not self._is_damage(error):
            return False
        await self._dispose()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._put_aside)

    def _is_damage(self, error: Exception) -> bool:
        code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
        if code is None:
            return False
        usable = self._file.is_file() and os.access(self._file, os.R_OK | os.W_OK)
        return code & 0xFF in DAMAGED or (os.path.lexists(self._file) and not usable)

    def _put_aside(self) -> bool:
        try:
            aside = set_aside(self._file)
            for part in ("-wal", "-shm"):  # what was not in the file yet goes with it
                if os.path.lexists(log := f"{self._file}{part}"):
                    Path(log).replace(f"{aside}{part}")
        except OSError as error:
            LOG.error(
                "the damaged fleet database cannot be put aside",
                path=str(self._file),
                why=error.strerror,
            )
            return False
        LOG.error(
            "the fleet database is damaged, and a new one is made",
            path=str(self._file),
            kept_as=str(aside),
        )
        return True

    @property
    def _is_file(self) -> bool:
        return self._url.drivername == DRIVERS["sqlite"]

    @property
    def _file(self) -> Path:
        return Path(self._url.database or "")

    async def close(self) -> None:
        """Close all connections when the running work has ended."""
        if self._thread is not None:
            await self._thread.call(self._thread.shutdown)
        await self._dispose()

    async def _dispose(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
        self.writer.dispose()

    def _transact(self, work: Callable[[Connection], None]) -> None:
        with self.writer.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # else it begins with the first change
            work(connection)

    async def _migrate_sqlite(self) -> None:
        """Run work again when SQLite refuses it: of two processes that open a new file at the same time, one does not wait."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        while True:
            try:
                return await self.transact(_upgrade)
            except OperationalError as error:
                if str(error.orig) != LOCKED or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(AGAIN)

    async def _migrate_postgresql(self) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 (see `engine`)

        engine = create_async_engine(self._url, connect_args=self._args(), poolclass=NullPool)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            await connection.run_sync(_upgrade)

    def _args(self) -> dict[str, Any]:
        """The driver's names of its deadlines."""
        if self._is_file:
            return {"timeout": self._timeout}
        return {"timeout": self._timeout, "command_timeout": self._timeout}


def read_url(text: str) -> URL:
    """The URL with its driver. Raises BadDatabaseURL."""
    expected = "expected sqlite:////absolute/path or postgresql://user@host/name"
    try:
        url = make_url(_escaped(text))
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


def _escaped(text: str) -> str:
    """The URL where each @ in a password is %40: SQLAlchemy ends the password at the first one."""
    if text.startswith("sqlite"):
        return text
    before, at, server = text.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return scheme + slashes + user.replace("@", "%40") + at + server


def _set_up(engine: Engine) -> Engine:
    """The engine of an SQLite file, each connection of which is set up."""

    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        cursor.close()

    event.listen(engine, "connect", connected)
    return engine


def _upgrade(connection: Connection) -> None:
    """Make the tables, or bring them up to date. Raises BadDatabase."""
    tables = inspect(connection).get_table_names()
    if not tables:
        METADATA.create_all(connection, checkfirst=False)
        VERSION.create(connection)
        connection.execute(insert(VERSION).values(version_num=NEWEST))
    elif VERSION.name not in tables or _version(connection) != NEWEST:
        _migrate(connection)


def _version(connection: Connection) -> str | None:
    """The last migration of the tables."""
    return connection.execute(select(VERSION)).scalar()


def _migrate(connection: Connection) -> None:
    # Half a second and 9 MB of imports, in the worker that needs them.
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
