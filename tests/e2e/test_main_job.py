"""The main job: a site's machines update through one line, and no wrong byte completes."""

import asyncio
import random

import pytest

from tests.support.mirror import PAYLOAD_PATH, Mirror, MirrorProcess, omaha
from tests.support.talk import Answer, dial, request
from tests.support.upstream import Corrupt, Upstream

HERD = 50
LINE = 2_000_000
HOLD_BACK = 1024 * 1024
"""The default."""


async def test_a_herd_on_a_cold_cache_costs_one_download(
    process: MirrorProcess, release: Upstream, payload: bytes
) -> None:
    release.throttle(LINE)
    gate = release.hold(PAYLOAD_PATH, at=len(payload) - 1)
    before = len(payload) - HOLD_BACK
    all_wait = asyncio.Barrier(HERD + 1)

    async def machine() -> bytes:
        path = await process.payload()
        async with dial(process.address) as talk:
            await talk.send(request("GET", path))
            await talk.head()
            had = await talk.read(before)
            await all_wait.wait()
            return had + await talk.read(HOLD_BACK)

    machines = [asyncio.create_task(machine()) for _ in range(HERD)]
    # Upstream has not sent all of it yet, and everybody has all that may leave.
    await all_wait.wait()
    gate.open()
    assert all(got == payload for got in await asyncio.gather(*machines))
    assert [entry.range for entry in release.requests(PAYLOAD_PATH, "GET")] == [None]
    assert release.bytes_sent(PAYLOAD_PATH) == len(payload)


@pytest.fixture
def any_file(release: Upstream, payload: bytes) -> bytes:
    """Published in place of the payload; nothing but its digest tells whether it is right."""
    body = random.Random(1).randbytes(len(payload))
    release.put(PAYLOAD_PATH, body)
    return body


async def test_the_first_byte_arrives_while_upstream_still_sends(
    mirror: Mirror, release: Upstream, any_file: bytes
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=100_000)
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path))
        assert (await talk.head()).length == len(any_file)
        assert await talk.read(100_000) == any_file[:100_000]
        [fetch] = release.requests(PAYLOAD_PATH, "GET")
        assert not fetch.done
        gate.open()
        assert await talk.read(len(any_file) - 100_000) == any_file[100_000:]


async def test_no_header_goes_out_before_the_first_byte_is_in_hand(
    mirror: Mirror, release: Upstream, payload: bytes
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=0)
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path))
        await gate.reached()
        await mirror.round_trips()
        assert talk.arrived() == b""
        gate.open()
        answer = await talk.answer()
    assert (answer.status, answer.body) == (200, payload)


async def test_the_end_is_held_back_until_the_digest_is_right(
    mirror: Mirror, release: Upstream, any_file: bytes
) -> None:
    path = await mirror.payload()
    gate = release.hold(PAYLOAD_PATH, at=len(any_file) - 1)
    async with dial(mirror.address) as talk, dial(mirror.address) as late:
        await talk.send(request("GET", path))
        await talk.head()
        before = len(any_file) - HOLD_BACK
        assert await talk.read(before) == any_file[:before]
        await late.send(request("GET", path, {"Range": f"bytes={before}-"}))
        await gate.reached()
        await mirror.round_trips()
        assert talk.arrived() == late.arrived() == b""
        gate.open()
        assert await talk.read(HOLD_BACK) == (await late.answer()).body == any_file[before:]


# A wrong byte


async def fetch(mirror: Mirror, path: str, **headers: str) -> Answer | None:
    """An answer with as many bytes as came; None where the connection was closed without one."""
    async with dial(mirror.address) as talk:
        await talk.send(request("GET", path, headers))
        first = await talk.read(1)
        if not first:
            return None
        talk.unread(first)
        return await talk.answer()


def whole(answer: Answer | None) -> bool:
    """Whether a client takes it for the package, or for the rest that it asked for."""
    return answer is not None and answer.status < 300 and len(answer.body) == answer.length


async def cut_off(mirror: Mirror, release: Upstream, size: int, at: int) -> list[Answer | None]:
    """Flip a byte while ten clients wait for the end, and five more that resume there.

    Gives what the resuming ones got. The others have all that may leave unproven, and not the end.
    """
    path = await mirror.payload()
    release.fault(PAYLOAD_PATH, Corrupt(at=at % size, times=1))
    gate = release.hold(PAYLOAD_PATH, at=size - 1)
    before = size - HOLD_BACK
    all_wait = asyncio.Barrier(11)

    async def machine() -> int:
        async with dial(mirror.address) as talk:
            await talk.send(request("GET", path))
            await talk.head()
            had = await talk.read(before)
            await all_wait.wait()
            return len(had + await talk.rest())

    machines = [asyncio.create_task(machine()) for _ in range(10)]
    await all_wait.wait()
    resuming = [
        asyncio.create_task(fetch(mirror, path, Range=f"bytes={before}-")) for _ in range(5)
    ]
    await mirror.until(mirror.opened(15))
    gate.open()
    assert all(before <= had < size for had in await asyncio.gather(*machines))
    return await asyncio.gather(*resuming)


@pytest.mark.parametrize("at", [0, 2_000_000, -1], ids=["start", "middle", "end"])
async def test_a_file_with_one_flipped_byte_completes_nowhere(
    mirror: Mirror, release: Upstream, any_file: bytes, at: int
) -> None:
    await cut_off(mirror, release, len(any_file), at)
    await mirror.until(lambda: len(mirror.ended()) >= 1)
    answer = await mirror.get(await mirror.payload())
    assert (answer.status, answer.body) == (200, any_file)
    await mirror.until(lambda: len(mirror.ended()) == 2)
    assert [fill.outcome for fill in mirror.ended()] == ["wrong", "proven"]


@pytest.mark.parametrize("at", [0, 2_000_000], ids=["start", "middle"])
async def test_a_wrong_head_is_never_completed_by_a_right_tail(
    mirror: Mirror, release: Upstream, any_file: bytes, at: int
) -> None:
    resumed = await cut_off(mirror, release, len(any_file), at)
    path = await mirror.payload()
    resumed.append(await fetch(mirror, path, Range=f"bytes={len(any_file) - HOLD_BACK}-"))
    assert (await mirror.get(path)).body == any_file
    resumed.append(await fetch(mirror, path, Range=f"bytes={len(any_file) - HOLD_BACK}-"))
    assert not any(map(whole, resumed))


async def test_a_payload_that_stays_wrong_is_no_longer_offered(
    mirror: Mirror, release: Upstream, payload: bytes
) -> None:
    path = await mirror.payload()
    release.fault(PAYLOAD_PATH, Corrupt(at=len(payload) - 1))
    for _ in range(3):
        assert not whole(await fetch(mirror, path))
    [app] = (await mirror.response(omaha("request_check_first"))).apps
    assert app.update_check is not None
    assert app.update_check.status == "noupdate"
    answer = await mirror.get(path)
    assert answer.status == 502
    assert answer.line
