"""Work that runs to its end although whoever waits for it is cancelled.

A thread cannot be cancelled. Whoever goes on before it has ended closes or renames files under its hands.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

import structlog

from omaha_mirror.aio.workers import BLOBS

LOG = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Foreseen(Exception):
    """A failure that somebody raises on purpose, and that is no defect."""


async def finish(work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """The result of `work`. A cancellation of the caller, or several, is raised when `work` has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        log_defect(task)
        raise cancelled
    return task.result()


async def in_worker(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread of those for packages' files; see `finish`."""
    return await BLOBS.call(function, *args, **kwargs)


def submit(function: Callable[[], object]) -> None:
    """Call `function` in such a thread; nobody waits for it."""
    BLOBS.submit(function).add_done_callback(log_defect)


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and return when they have ended."""
    tasks, raised = list(tasks), sys.exception()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task.cancelled() or task.exception() is not raised:
            log_defect(task)


def log_defect(ended: asyncio.Future[Any] | Future[Any]) -> None:
    """Log the traceback of work that failed unexpectedly, where nothing else will raise it."""
    if not ended.cancelled():
        error = ended.exception()
        if error is not None and not isinstance(error, Foreseen | OSError):
            LOG.error("a defect in the cache", exc_info=error)
