"""No file descriptor is left: accepting pauses, says so once, and goes on when there is one."""

import asyncio
import json
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from omaha_mirror.cache.lock import in_use
from omaha_mirror.config import Address
from tests.support.mirror import MirrorProcess, omaha
from tests.support.talk import PATIENCE, Talk, dial, request
from tests.support.upstream import Upstream

CHECK = request("POST", "/v1/update/", body=omaha("request_check_first"))


@contextmanager
def no_more(pid: int) -> Iterator[None]:
    """A process gets no further descriptor."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def ready(admin: Talk, host: str) -> dict[str, str]:
    """The findings of /readyz by their names, on a connection that is there already."""
    await admin.send(request("GET", "/readyz", {"Host": host}))
    answer = await admin.answer()
    assert answer.status == 200, answer.body
    return {check["name"]: check["state"] for check in json.loads(answer.body)["checks"]}


async def until_told(admin: Talk, host: str, name: str, *, here: bool) -> None:
    """Wait until there is such a finding, or none any more; what was found stands for a second."""
    async with asyncio.timeout(PATIENCE):
        while (name in await ready(admin, host)) is not here:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_accepting_pauses_while_no_descriptor_is_left(
    release: Upstream, tmp_path: Path
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as mirror, AsyncExitStack() as stack:
        await mirror.payload()
        host = admin_of(tmp_path)
        admin = await stack.enter_async_context(dial(Address.parse(host)))
        assert "public listener" not in await ready(admin, host)
        with no_more(mirror.pid):
            # Some are accepted, and are given up one by one when they have said nothing for a while.
            talks = [await stack.enter_async_context(dial(mirror.address)) for _ in range(300)]
            said = await mirror.logged("no connection can be accepted for now")
            assert "Too many open files" in said
            await until_told(admin, host, "public listener", here=True)
        for talk in talks[-20:]:
            await talk.send(CHECK)
            assert b'status="ok"' in (await talk.answer()).body
        await until_told(admin, host, "public listener", here=False)
    lines = [line for line in mirror.log if "no connection can be accepted" in line]
    assert len(lines) == 1
    assert not [line for line in mirror.log if "Traceback" in line]


@pytest.mark.long
async def test_with_no_descriptor_left_an_idle_connection_makes_room(
    release: Upstream, tmp_path: Path
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as mirror, AsyncExitStack() as stack:
        await mirror.payload()
        idle = [await stack.enter_async_context(dial(mirror.address)) for _ in range(30)]
        for talk in idle:
            await talk.send(CHECK)
        for talk in idle:
            await talk.answer()
        with no_more(mirror.pid):
            for _ in range(30):
                talk = await stack.enter_async_context(dial(mirror.address, source="127.0.0.2"))
                await talk.send(CHECK)
                assert b'status="ok"' in (await talk.answer()).body
            assert await idle[0].rest() == b""


def admin_of(directory: Path) -> str:
    """The address of the admin listener of who has a cache directory."""
    found = in_use(directory / "cache")
    assert found is not None
    assert found.holder is not None
    assert found.holder.admin is not None
    return found.holder.admin
