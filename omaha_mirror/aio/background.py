"""Work that goes on in the background: what goes wrong in it is logged, and ends it only where it was to be done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

LOG = structlog.get_logger(__name__)
DEFECT = "something went wrong in the mirror; its log says what"
"""What people are told of an error that nobody foresaw, in place of its own words."""
PAUSE = 60.0
"""Seconds until what failed is begun again."""


async def lasting(work: Callable[[], Awaitable[None]], what: str, pause: float = PAUSE) -> None:
    """Do something until it ends or is cancelled; where it fails it is begun again.

    Args:
        work: begins it.
        what: it is, for people.
        pause: seconds until it is begun again.
    """
    while True:
        try:
            await work()
        except Exception:
            LOG.exception(
                "work in the background failed, and is begun again", work=what, pause=pause
            )
            await asyncio.sleep(pause)
        else:
            return


def tell_failure(task: asyncio.Task[Any]) -> None:
    """Log at once what a task failed with that nobody waits for; a done callback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        LOG.error("work in the background failed", exc_info=error)
