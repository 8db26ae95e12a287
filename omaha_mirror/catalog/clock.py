"""What time it is."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Tells the time and lets it pass; tests have another."""

    def time(self) -> float:
        """Seconds since the epoch: for what is kept and shown."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, whatever is done to the machine's clock: for intervals."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Come back after so long."""
        await asyncio.sleep(seconds)
