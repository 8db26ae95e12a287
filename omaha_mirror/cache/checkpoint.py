"""Lets no more progress be lost in a crash than the limits say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache.limits import Limits

LOG = structlog.get_logger(__name__)


class Checkpoint:
    """Records a draft every `record_seconds`, and sooner when `record_bytes` have come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unrecorded = 0
        self._enough = asyncio.Event()

    def note(self, count: int) -> None:
        """Note that `count` more bytes were written."""
        self._unrecorded += count
        if self._unrecorded >= self._limits.record_bytes:
            self._enough.set()

    async def run(self, record: Callable[[], None]) -> None:
        """Run until cancelled. What the disk refuses here is not kept, and hinders nothing."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.record_seconds):
                    await self._enough.wait()
            self._enough.clear()
            if self._unrecorded:
                self._unrecorded = 0
                try:
                    await in_worker(record)
                except OSError:
                    pass
                except Exception:
                    LOG.exception("cannot record what was fetched")
