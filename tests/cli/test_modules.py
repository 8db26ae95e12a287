"""What a serving process has imported."""

from pathlib import Path

from tests.support.mirror import MirrorProcess
from tests.support.upstream import Upstream

UNNEEDED = {
    "alembic": "to change the tables of an older database",
    "cryptography": "with keys or a certificate",
    "jinja2": "for somebody who opens the page",
    "mako": "with alembic",
    "omaha_mirror.web.admin.openapi": "for somebody who asks for the API's description",
    "pygments": "for colours of commands",
    "rich.console": "for tables of commands",
    "sqlalchemy.ext.asyncio": "to read the database, and to write to PostgreSQL",
    "sqlalchemy.orm": "never",
}
"""Modules that no process has before it needs them, and when it does."""


async def test_a_serving_process_has_imported_nothing_that_only_others_need(
    tmp_path: Path, upstream: Upstream
) -> None:
    told = tmp_path / "modules"
    mirror = MirrorProcess(tmp_path, upstream.origin, log={"level": "info"})
    mirror.prelude = (
        "import atexit, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(told)!r}).write_text(' '.join(sys.modules)))"
    )
    async with mirror:
        await mirror.logged_so_far()
        assert await mirror.terminate() == 0
    found = set(told.read_text().split())
    assert {"omaha_mirror.web.public", "omaha_mirror.web.admin.app", "sqlalchemy"} < found
    assert found & UNNEEDED.keys() == set()
