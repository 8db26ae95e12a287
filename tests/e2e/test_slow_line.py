"""A machine that resumes near the end of a package that is not here yet, on a line that takes its time."""

import random
from dataclasses import replace
from pathlib import Path

from omaha_mirror.cache import Limits
from tests.support.mirror import PAYLOAD_PATH, mirror_in_process, real_payload
from tests.support.talk import Talk, request
from tests.support.upstream import Upstream

HOLD_BACK = 256 * 1024


async def test_a_resume_is_fed_until_the_whole_is_proven_and_ends_in_one_connection(
    tmp_path: Path, upstream: Upstream
) -> None:
    payload = random.Random(1).randbytes(len(real_payload()))
    start, edge = len(payload) * 4 // 5, len(payload) - HOLD_BACK
    upstream.put(PAYLOAD_PATH, payload)
    async with mirror_in_process(
        tmp_path, upstream.origin, cache={"hold_back": HOLD_BACK}
    ) as mirror:
        limits = replace(Limits(), trickle_seconds=0.05)
        mirror.service.cache.limits = limits
        path = await mirror.payload()
        gate = upstream.hold(PAYLOAD_PATH, at=len(payload) // 2)
        talk = await Talk.dial(mirror.address)
        try:
            await talk.send(request("GET", path, {"Range": f"bytes={start}-"}))
            answer = await talk.head()
            assert (answer.status, answer.length) == (206, len(payload) - start)
            fed = edge - start + 5 * limits.trickle_bytes
            got = await talk.read(fed)
            await gate.reached()
            assert len(got) == fed
            gate.open()
            got += await talk.read(len(payload) - start - fed)
            assert got == payload[start:]
        finally:
            talk.close()
        await mirror.until(lambda: bool(mirror.ended()))
        assert [fill.fetched for fill in mirror.ended()] == [len(payload)]
