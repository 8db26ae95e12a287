"""A machine that goes on with an update, by update_engine's own rules: cut or killed at each step, it never aborts.

Its payload has a large manifest, as released ones have: small ones fit into one buffer, and hide what goes wrong.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from omaha_mirror.config import Address
from omaha_mirror.web import sending
from tests.cache.payloads import operations, pieces, signed
from tests.support.mirror import PAYLOAD_PATH, Mirror, MirrorProcess, mirror_in_process
from tests.support.talk import Talk, dial, request
from tests.support.update_engine import Aborted, Failed, UpdateEngine
from tests.support.upstream import Gate, Upstream

BODY = signed(pieces(4000, 200))
SIZE = len(BODY)
OPERATIONS = operations(BODY)
METADATA = OPERATIONS[0][0]
"""Bytes: many buffers of update_engine's."""
OFFSET = OPERATIONS[2000][0]
"""Where the update stood at the last checkpoint."""
FORGED = signed(pieces(4000, 200, b"forged"))
SLOW = 4096
"""Bytes of the receive buffer of a client that reads slowly."""


@pytest.fixture
def release(upstream: Upstream) -> Upstream:
    upstream.put(PAYLOAD_PATH, BODY)
    return upstream


def machine(address: Address, path: str = PAYLOAD_PATH) -> UpdateEngine:
    return UpdateEngine(partial(Talk.dial, address), path, SIZE)


@asynccontextmanager
async def cut_after(mirror: Address, most: int) -> AsyncIterator[Address]:
    """A line to the mirror: of the first answer only `most` bytes get through, head included."""
    cuts = [most]

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        up, out = await asyncio.open_connection(mirror.host, mirror.port)
        ways = _pass(reader, out), _pass(up, writer, cuts.pop() if cuts else None)
        passing = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        await asyncio.wait(passing)
        writer.close()
        out.close()

    tasks: list[asyncio.Task[None] | None] = []
    async with await asyncio.start_server(passed_on, "127.0.0.1", 0) as server:
        yield Address(*server.sockets[0].getsockname()[:2])
    assert not cuts
    await asyncio.wait([task for task in tasks if task is not None])


async def _pass(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, most: int | None = None
) -> None:
    """Pass bytes on until the end, or until `most` of them are through."""
    try:
        while most is None or most > 0:
            data = await source.read(4096 if most is None else min(most, 4096))
            if not data:
                return
            most = None if most is None else most - len(data)
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        return


@asynccontextmanager
async def in_state(
    release: Upstream, directory: Path, state: str
) -> AsyncIterator[tuple[Mirror, Gate]]:
    """A mirror that has the package, or has had it; the gate lets its fill go on."""
    async with mirror_in_process(directory, release.origin) as mirror:
        assert (await mirror.get(PAYLOAD_PATH)).body == BODY
        await mirror.until(lambda: len(mirror.ended()) == 1)
        gate = release.hold(PAYLOAD_PATH, at=OFFSET)
        if state == "had":
            assert await mirror.service.cache.remove(hashlib.sha256(BODY).hexdigest()) is not None
            filling = asyncio.create_task(mirror.get(PAYLOAD_PATH))
            await gate.reached()
        yield mirror, gate
        if state == "had":
            assert (await filling).body == BODY


async def answer_to_resume(address: Address) -> tuple[int, bytes]:
    """How long the head of the answer is, and its body."""
    async with dial(address) as talk:
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes=0-{METADATA - 1}"}))
        got = await talk.read(4096)
        size = got.index(b"\r\n\r\n") + 4
        return size, got[size:] + await talk.read(METADATA - (len(got) - size))


@pytest.mark.parametrize("state", ["here", "had"])
async def test_a_resume_whose_metadata_are_cut_goes_on(
    release: Upstream, tmp_path: Path, state: str
) -> None:
    async with in_state(release, tmp_path, state) as (mirror, gate):
        head, body = await answer_to_resume(mirror.address)
        assert body == BODY[:METADATA]
        for lost in 1, METADATA // 2, METADATA - 1:
            async with cut_after(mirror.address, head + METADATA - lost) as line:
                assert await machine(line).metadata(METADATA) == BODY[:METADATA]
        for most in 0, head // 2:
            async with cut_after(mirror.address, most) as line:
                with pytest.raises(Failed, match="no answer") as failed:
                    await machine(line).metadata(METADATA)
                assert failed.value.code == 9
        gate.open()
        assert await machine(mirror.address).rest(OFFSET) == BODY[OFFSET:]


async def test_a_server_that_sends_on_at_once_aborts_it(release: Upstream) -> None:
    """As the upstream does, which knows nothing of its ways."""
    address = Address.parse(release.origin.removeprefix("http://"))
    async with cut_after(address, METADATA // 2) as line:
        with pytest.raises(Aborted):
            await machine(line).metadata(METADATA)


async def test_what_it_lacks_of_the_metadata_comes_alone_and_the_rest_to_who_waits(
    release: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TIME_TO_CLOSE", 0.1)
    start, stop = METADATA // 3, METADATA // 3 + METADATA
    async with in_state(release, tmp_path, "here") as (mirror, _), dial(mirror.address) as talk:
        await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes={start}-{stop - 1}"}))
        answer = await talk.answer()
    assert (answer.status, answer.body) == (206, BODY[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"


async def test_a_kill_cuts_no_metadata_that_were_begun(release: Upstream, tmp_path: Path) -> None:
    """The machine has read the head of the answer and no more: the rest is the kernel's to deliver."""
    async with MirrorProcess(tmp_path, release.origin) as mirror:
        assert (await mirror.get(PAYLOAD_PATH)).body == BODY
        async with dial(mirror.address, buffer=SLOW) as talk:
            await talk.send(request("GET", PAYLOAD_PATH, {"Range": f"bytes=0-{METADATA - 1}"}))
            assert (await talk.head()).length == METADATA
            await mirror.kill()
            assert await talk.read(METADATA) == BODY[:METADATA]


@pytest.mark.long
async def test_who_waits_for_the_proof_fails_with_the_mirror_and_goes_on_with_the_next(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=SIZE - 1)
    async with MirrorProcess(tmp_path, release.origin) as mirror:
        resuming = asyncio.create_task(machine(mirror.address).resume(METADATA, OFFSET))
        await gate.reached()
        assert not resuming.done()
        await mirror.kill()
        with pytest.raises(Failed) as failed:
            await resuming
    assert failed.value.code == 9
    async with MirrorProcess(tmp_path, release.origin) as mirror:
        resuming = asyncio.create_task(machine(mirror.address).resume(METADATA, OFFSET))
        gate.open()
        assert await resuming == (BODY[:METADATA], BODY[OFFSET:])


@pytest.mark.long
async def test_a_mirror_that_is_told_to_stop_finishes_the_metadata_or_never_begins(
    release: Upstream, tmp_path: Path
) -> None:
    gate = release.hold(PAYLOAD_PATH, at=SIZE - 1)
    async with MirrorProcess(tmp_path, release.origin) as mirror:
        asking = asyncio.create_task(machine(mirror.address).metadata(METADATA))
        await gate.reached()
        ending = asyncio.create_task(mirror.terminate())
        await asyncio.sleep(0)
        gate.open()
        with suppress(Failed):
            assert await asking == BODY[:METADATA]
        assert await ending == 0


async def test_a_forged_payload_is_never_taken_for_the_metadata(
    release: Upstream, tmp_path: Path
) -> None:
    """Right in itself, and of the same size: until the last byte only the whole tells."""
    assert len(FORGED) == SIZE
    gate = release.hold(PAYLOAD_PATH, at=SIZE - 1)
    async with mirror_in_process(tmp_path, release.origin) as mirror:
        assert (await mirror.get(f"{PAYLOAD_PATH}.sha256")).status == 200
        release.put(PAYLOAD_PATH, FORGED, sidecar=False)
        resuming = asyncio.create_task(machine(mirror.address).resume(METADATA, OFFSET))
        await gate.reached()
        release.put(PAYLOAD_PATH, BODY)
        gate.open()
        assert await resuming == (BODY[:METADATA], BODY[OFFSET:])
