"""How fast bytes come in."""

from __future__ import annotations

import time

WINDOW = 1.0


class Rate:
    """Bytes a second, smoothed over a few windows of one second each."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self._smoothed: float | None = None

    def add(self, count: int) -> None:
        """Note `count` bytes."""
        self._roll(time.monotonic())
        self._count += count

    def per_second(self) -> float:
        """The present rate; right from the first bytes on."""
        now = time.monotonic()
        self._roll(now)
        running = self._count / max(now - self._since, 0.05)
        return running if self._smoothed is None else self._smoothed

    def _roll(self, now: float) -> None:
        elapsed = now - self._since
        if elapsed < WINDOW:
            return
        measured = self._count / elapsed
        old = measured if self._smoothed is None else self._smoothed
        self._smoothed = (old + measured) / 2
        self._since, self._count = now, 0
