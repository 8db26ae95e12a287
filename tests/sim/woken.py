"""Whoever can go on is woken: a reader that finds out for itself, when its patience is over, was forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from omaha_mirror.cache.reader import Reader
from omaha_mirror.cache.waiters import Waiters

SLACK = 0.1
"""Seconds in which time itself may be why a reader can go on: the proof was waited for long enough."""


@contextmanager
def watched(fail: Callable[[str], None]) -> Iterator[None]:
    """Have `fail` told of each reader that was forgotten."""
    wait = Waiters._woken_in

    async def woken(waiters: Waiters, reader: Reader, seconds: float) -> None:
        began = time.monotonic()
        await wait(waiters, reader, seconds)
        now = time.monotonic()
        waited_for_proof = reader.since + waiters._state.limits.proof_seconds
        if now - began < seconds or abs(now - waited_for_proof) < SLACK:
            return
        if (edge := waiters.edge(reader)) > reader.offset and not reader.is_cut:
            fail(
                f"who can go on is woken: a reader at {reader.offset} could have had the bytes"
                f" up to {edge}, and waited for {seconds:.3f} s"
            )

    with patch.object(Waiters, "_woken_in", woken):
        yield
