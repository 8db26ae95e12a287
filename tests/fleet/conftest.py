"""Every test of the database runs on SQLite and on a PostgreSQL cluster that lives as long as the tests."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from omaha_mirror.fleet import Database, FleetReader
from tests.fleet.scene import Site
from tests.support.ports import free_port


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a throw-away cluster."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="omaha-mirror-pg-"))
    port = free_port()
    # It refuses to run as root, and ends with these tests however they end.
    prefix = ["setpriv", "--pdeathsig=INT"]
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix += ["--reuid=postgres", "--regid=postgres", "--init-groups"]

    def command(program: str, *args: str) -> list[str]:
        return [*prefix, str(programs[-1] / program), "-D", str(folder / "data"), *args]

    options = ("-U", "omaha", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "jit": "off",
        "log_min_messages": "log",
    }
    try:
        subprocess.run(
            command("initdb", *options), check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        with subprocess.Popen(
            command("postgres", *flags), stderr=subprocess.PIPE, text=True, cwd=folder
        ) as server:
            assert server.stderr is not None
            assert any("ready to accept connections" in line for line in server.stderr)
            yield f"postgresql://omaha@127.0.0.1:{port}/postgres"
            server.send_signal(signal.SIGQUIT)
            server.stderr.read()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    server: str = request.getfixturevalue("postgresql")
    connection = await asyncpg.connect(server)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return server


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """An empty database with its tables."""
    database = Database(url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
def site(database: Database) -> Site:
    """News can be written to it and asked of it."""
    return Site(database, FleetReader(database))
