"""What is watched inside a mirror while it runs, as nobody could see it from outside but by luck.

Whoever can go on is woken: a reader that finds out for itself, when its patience is over, was forgotten. And no range ends
with a byte that was not proven, be it right or not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from omaha_mirror.cache.fill import Fill
from omaha_mirror.cache.reader import Reader
from omaha_mirror.cache.waiters import Waiters
from tests.sim.books import Invariant
from tests.sim.releases import Release

SLACK = 0.1
"""Seconds in which time itself may be why a reader can go on: the proof was waited for long enough."""

TWICE = 2
"""How often one reader must have been forgotten: its time may be over just before it is woken."""


@contextmanager
def watched(releases: Iterable[Release], fail: Callable[[str], None]) -> Iterator[None]:
    """Have `fail` told of each reader for which that does not hold."""
    heads = {hashlib.sha256(one.payload).hexdigest(): one.marks[1] for one in releases}
    forgotten: dict[Reader, int] = {}
    wait, edge_of = Waiters._woken_in, Reader._edge

    async def woken(waiters: Waiters, reader: Reader, seconds: float) -> None:
        began = time.monotonic()
        await wait(waiters, reader, seconds)
        now = time.monotonic()
        waited_for_proof = reader.since + waiters._state.limits.proof_seconds
        if now - began < seconds or abs(now - waited_for_proof) < SLACK:
            return
        if (edge := waiters.edge(reader)) > reader.offset and not reader.is_cut:
            forgotten[reader] = forgotten.get(reader, 0) + 1
        if forgotten.get(reader, 0) == TWICE:
            fail(
                f"{Invariant.WOKEN}: a reader at {reader.offset} could have had the bytes"
                f" up to {edge}, and waited for {seconds:.3f} s"
            )

    async def proven_edge(reader: Reader) -> int:
        edge, fill = await edge_of(reader), reader._blob
        if edge >= reader.stop and isinstance(fill, Fill):
            head = heads.get(fill.state.expected.key, 0)
            for words in _unproven(fill, reader, head):
                fail(f"{Invariant.RANGE}: {words}")
        return edge

    with patch.object(Waiters, "_woken_in", woken), patch.object(Reader, "_edge", proven_edge):
        yield


def _unproven(fill: Fill, reader: Reader, head: int) -> Iterator[str]:
    """Why a reader must not have its last byte yet.

    Args:
        fill: that it reads.
        reader: the reader.
        head: bytes of its package that no digest inside it covers; 0 where that is not known.
    """
    state, clearance = fill.state, fill._clearance
    if state.proof is not None or state.is_recheck:
        return
    asked = f"{reader.start}-{reader.stop - 1} of {state.size}"
    if reader.stop >= state.size:
        yield f"{asked} ends, and the whole is not proven"
    elif reader.stop - 1 not in clearance.completable:
        yield f"{asked} ends within what is not proven"
    elif reader.start < head and not clearance.proven:
        yield f"{asked} begins in metadata that nothing proves"
