"""Judges the bytes of one blob as they come: what may leave now, and in the end whether all of it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omaha_mirror.cache.blob import Expected, Hasher, Proof
from omaha_mirror.cache.errors import DigestMismatch
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Prover, Ruling
from omaha_mirror.cache.store import Draft

STEP = 2 * 1024 * 1024


class Judge:
    """Asks the prover, and runs the digests over what is ripe, read back from where it lies.

    Args:
        expected: what the blob must become.
        prover: says what may leave before that is known.
        source: where the bytes come from, for people.
    """

    def __init__(self, expected: Expected, prover: Prover, source: str) -> None:
        self.proof: Proof | None = None
        self._expected = expected
        self._hasher = Hasher(expected)
        self._prover = prover
        self._source = source

    @property
    def hashed(self) -> int:
        """How many bytes, from the first one on, the digests have seen."""
        return self._hasher.position

    def step(self, draft: Draft, filled: Intervals, awaited: Sequence[int] = ()) -> Ruling:
        """A little work, in a worker thread; with the last of it, `proof` is there.

        Args:
            draft: where the bytes lie.
            filled: those that are there.
            awaited: offsets that are waited for: what is there is judged first.

        Raises:
            DigestMismatch: something is wrong that cannot be mended.
            Untrusted: the digest is right, and the blob is not to be served all the same.
            OSError: the store failed.
        """
        ruling = self._prover.examine(filled, draft.read, draft.capacity, awaited)
        for start, stop in ruling.wrong:
            if start < self.hashed:
                if draft.capacity is not None:
                    raise DigestMismatch(f"{self._source}: bytes {start} to {stop} are wrong")
                self._hasher = Hasher(self._expected)
                return replace(ruling, more=True)
        ready = ruling.ripe.run_end(0)
        count = min(ready - self.hashed, STEP)
        data = draft.read(self.hashed, count)
        if count and not data:
            raise OSError(f"bytes that were written are missing at {self.hashed}")
        self._hasher.update(data)
        self._prover.take(data)
        if self.hashed == self._expected.size:
            return self._concluded(ruling, draft)
        return replace(ruling, more=ruling.more or self.hashed < ready)

    def _concluded(self, ruling: Ruling, draft: Draft) -> Ruling:
        verdict, is_all_there = self._hasher.judge(), draft.capacity is None
        if isinstance(verdict, Proof):
            signed_by = self._prover.conclude(draft.read if is_all_there else None)
            self.proof = replace(verdict, signed_by=signed_by, head=self._prover.head())
            return ruling
        suspects = self._prover.suspects() if is_all_there else ()
        if not suspects:
            raise DigestMismatch(f"{self._source}: {verdict}")
        self._hasher = Hasher(self._expected)
        return replace(ruling, wrong=suspects)
