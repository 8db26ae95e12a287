"""Which databases there can be, and how their tables come about."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from omaha_mirror.fleet import BadDatabaseURL, Database, FleetReader
from omaha_mirror.fleet.database import MIGRATIONS, BadDatabase, read_url
from omaha_mirror.fleet.schema import METADATA, NEWEST, VERSION
from tests.fleet.scene import ASK, OFFERED, Site


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/fleet.db", "sqlite+aiosqlite:////var/lib/fleet.db"),
        ("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://u:p@q@r@h/d", "postgresql+asyncpg://u:p%40q%40r@h/d"),
        ("postgresql://h/d?x=a@b", "postgresql+asyncpg://h/d?x=a%40b"),
        ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
    ],
)
def test_a_url_gets_its_driver(url: str, expected: str) -> None:
    assert read_url(url).render_as_string(hide_password=False) == expected


@pytest.mark.parametrize(
    "url", ["", "fleet.db", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "postgresql://h:x/d"]
)
def test_another_url_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(BadDatabaseURL, match="expected sqlite:////absolute/path or postgresql://"):
        Database(url)


@pytest.mark.parametrize("secret", ["u:secret@h/d", "u:x@secret@h/d", "u@h/d?password=secret"])
def test_a_password_is_never_told(secret: str) -> None:
    database = Database(f"postgresql://{secret}")
    assert "secret" not in database.where
    with pytest.raises(BadDatabaseURL) as error:
        Database("mysql://u:secret@h/d")
    assert "secret" not in str(error.value)


def migrated(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@pytest.mark.parametrize("way", ["created", "migrated"])
async def test_the_tables_are_those_of_the_schema_whether_created_or_migrated(
    way: str, url: str
) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), whole)

    whole = MetaData()
    for table in (*METADATA.sorted_tables, VERSION):
        table.to_metadata(whole)
    database = Database(url)
    if way == "migrated":
        await database.transact(partial(migrated, revision="head"))
    await database.migrate()
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        found = await connection.execute(text("SELECT version_num FROM alembic_version"))
        assert found.scalars().all() == [NEWEST]
    await database.close()


async def test_a_database_of_an_older_version_opens_with_what_is_in_it(url: str) -> None:
    def older(connection: Connection) -> None:
        migrated(connection, "0004")
        row = "(42, 0, 1, 2, 3, '1.0', 'beta', 'held', NULL, 'the track is held', '{}')"
        connection.execute(text(f"INSERT INTO checkins VALUES {row}"))

    database = Database(url)
    await database.transact(older)
    await database.migrate()
    await Site(database, FleetReader(database)).write(OFFERED)
    async with database.engine.connect() as connection:
        found = await connection.execute(text("SELECT track, count, detail FROM checkins"))
    assert {tuple(row) for row in found} == {
        ("beta", 3, "the track is held"),
        ("stable", 1, OFFERED.detail),
    }
    await database.close()


async def test_migrating_again_keeps_what_is_there(site: Site) -> None:
    await site.write(ASK)
    await site.database.migrate()
    assert (await site.history()).machine.alias == "web-1"


async def test_tables_of_a_newer_version_are_left_alone(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadDatabase, match="newer omaha-mirror"):
        await database.migrate()


async def test_two_that_start_together_make_the_tables_once(url: str) -> None:
    both = Database(url), Database(url)
    await asyncio.gather(*(database.migrate() for database in both))
    for database in both:
        async with database.engine.connect() as connection:
            found = await connection.execute(text("SELECT version_num FROM alembic_version"))
            assert len(found.all()) == 1
        await database.close()


async def test_a_migration_that_breaks_leaves_nothing_behind(url: str) -> None:
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE census (hour INTEGER)"))  # the last to be made
    with pytest.raises(Exception, match="census"):
        await database.migrate()
    async with database.engine.begin() as connection:
        await connection.execute(text("DROP TABLE census"))
    await database.migrate()
    await database.close()


async def test_a_path_may_hold_a_percent_sign_or_blank(tmp_path: Path) -> None:
    folder = tmp_path / "50% full"
    folder.mkdir()
    database = Database(f"sqlite:///{folder}/fleet.db")
    await database.migrate()
    assert (folder / "fleet.db").exists()
    await database.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_sqlite_is_written_in_one_thread_that_is_not_the_loops(database: Database) -> None:
    threads = set()
    for _ in range(3):
        await database.transact(lambda _: threads.add(threading.get_ident()))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_work_that_fails_leaves_nothing(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        await database.transact(work)
    async with database.engine.connect() as connection:
        found = await connection.execute(text("SELECT version_num FROM alembic_version"))
        assert found.scalar_one() != "9999"
