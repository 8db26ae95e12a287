"""Judges the bytes of one blob as they come: what may leave now, and in the end whether all of it is right."""

from __future__ import annotations

from omaha_mirror.cache.blob import Expected, Hasher, Proof
from omaha_mirror.cache.errors import DigestMismatch
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Prover
from omaha_mirror.cache.store import Draft

STEP = 2 * 1024 * 1024


class Judge:
    """Runs the digests over what was written, read back from where it lies, and asks the prover.

    Args:
        expected: what the blob must become.
        prover: says what may leave before that is known.
    """

    def __init__(self, expected: Expected, prover: Prover) -> None:
        self._hasher = Hasher(expected)
        self._prover = prover

    @property
    def hashed(self) -> int:
        """How many bytes, from the first one on, the digests have seen."""
        return self._hasher.position

    def step(self, draft: Draft, filled: Intervals) -> tuple[Intervals, bool]:
        """A little work, in a worker thread: what may leave, and whether there is more to hash. Raises OSError."""
        released = self._prover.examine(filled)
        ready = filled.run_end(0)
        count = min(ready - self.hashed, STEP)
        data = draft.read(self.hashed, count)
        if count and not data:
            raise OSError(f"bytes that were written are missing at {self.hashed}")
        self._hasher.update(data)
        return released, self.hashed < ready

    def proof(self, source: str) -> Proof:
        """What the whole blob is. Raises DigestMismatch, which names the source."""
        verdict = self._hasher.judge()
        if isinstance(verdict, str):
            raise DigestMismatch(f"{source}: {verdict}")
        return verdict
