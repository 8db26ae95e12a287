"""Port: which filled bytes of an unproven blob may leave."""

from __future__ import annotations

from typing import Protocol

from omaha_mirror.cache.intervals import Intervals


class Prover(Protocol):
    """Judges one fill; called from one worker thread at a time, as the fill grows."""

    def examine(self, filled: Intervals) -> Intervals:
        """The bytes of `filled` that readers may have. `filled` only grows."""


class HoldBack:
    """Releases all but the end, so that nobody completes a blob whose digest is not yet known to be right."""

    def __init__(self, size: int, hold_back: int) -> None:
        if hold_back < 1:
            raise ValueError("at least the last byte must be held back")
        self._edge = max(0, size - hold_back)

    def examine(self, filled: Intervals) -> Intervals:
        """All that was filled before the held-back end."""
        return filled.clip(0, self._edge)
