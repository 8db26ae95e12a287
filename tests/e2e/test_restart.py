"""A mirror that was stopped, or killed, goes on where it was."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.support.mirror import PAYLOAD_PATH, MirrorProcess
from tests.support.talk import PATIENCE, dial, request
from tests.support.upstream import Gate, Upstream

HALF = 1_523_310
"""The part of the payload that the first process gets; two operations end there, so all of it may leave."""

End = Callable[[MirrorProcess], Coroutine[Any, Any, int]]
ENDS: list[End] = [MirrorProcess.terminate, MirrorProcess.kill]
EXIT_CODES: dict[End, int] = {MirrorProcess.terminate: 0, MirrorProcess.kill: -9}


async def get_half(process: MirrorProcess, release: Upstream, path: str, payload: bytes) -> Gate:
    """Let the mirror get so much and no more; gives the gate before the rest."""
    gate = release.hold(PAYLOAD_PATH, at=HALF)
    async with dial(process.address) as talk:
        await talk.send(request("GET", path))
        await talk.head()
        assert await talk.read(HALF) == payload[:HALF]
    return gate


@pytest.mark.parametrize("end", ENDS)
async def test_an_offered_path_is_served_after_a_restart_without_a_new_check(
    release: Upstream, tmp_path: Path, payload: bytes, end: End
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as process:
        path = await process.payload()
        assert await end(process) == EXIT_CODES[end]
    asked = len(release.log)
    async with MirrorProcess(tmp_path, release.origin) as process:
        answer = await process.get(path)
    assert (answer.status, answer.body) == (200, payload)
    assert [entry.method for entry in release.log[asked:]] == ["GET"]


async def test_a_whole_package_needs_no_upstream_after_a_crash(
    release: Upstream, tmp_path: Path, payload: bytes
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as process:
        path = await process.payload()
        assert (await process.get(path)).body == payload
        await process.logged("fill ended")
        await process.kill()
    await release.refuse()
    async with MirrorProcess(tmp_path, release.origin) as process:
        assert (await process.get(path)).body == payload
        assert await process.payload() == path
    await release.listen()


@pytest.mark.parametrize("end", ENDS)
async def test_a_fill_goes_on_at_the_first_byte_that_was_not_recorded(
    release: Upstream, tmp_path: Path, payload: bytes, end: End
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as process:
        path = await process.payload()
        gate = await get_half(process, release, path, payload)
        if end is MirrorProcess.kill:
            await until_recorded(process)
        await end(process)
    gate.open()
    async with MirrorProcess(tmp_path, release.origin) as process:
        answer = await process.get(path)
    assert (answer.status, answer.body) == (200, payload)
    fetches = [entry.range for entry in release.requests(PAYLOAD_PATH, "GET")]
    assert fetches == [None, f"bytes={HALF}-"]
    assert release.bytes_sent(PAYLOAD_PATH) == len(payload)


async def until_recorded(process: MirrorProcess) -> None:
    """Wait until the journal of the one fill says that the first half is safe."""
    async with asyncio.timeout(PATIENCE):
        while f'"stop": {HALF},' not in "".join(map(Path.read_text, process.journals())):  # noqa: ASYNC110 (another process writes)
            await asyncio.sleep(0.05)


async def test_a_crash_before_anything_was_recorded_costs_those_bytes_only(
    release: Upstream, tmp_path: Path, payload: bytes
) -> None:
    async with MirrorProcess(tmp_path, release.origin) as process:
        path = await process.payload()
        gate = await get_half(process, release, path, payload)
        await process.kill()
    gate.open()
    async with MirrorProcess(tmp_path, release.origin) as process:
        answer = await process.get(path, Range=f"bytes={HALF}-")
        assert (answer.status, answer.body) == (206, payload[HALF:])
        assert (await process.get(path)).body == payload
    assert release.bytes_sent(PAYLOAD_PATH) <= len(payload) + HALF
