"""Tasks: work that a cancellation of its caller does not interrupt, work in threads, and work in the background.

A thread cannot be cancelled: a caller that went on before its end would close or rename files that it still uses.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import structlog

from omaha_mirror.aio.workers import BLOBS

LOG = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Foreseen(Exception):
    """Base of the errors that are raised on purpose: they are no defects."""


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
    """Call `function` in a thread for packages' files, and wait for its end; see `finish`."""
    return await BLOBS.call(function, *args, **kwargs)


def submit(function: Callable[[], object]) -> None:
    """Call `function` in such a thread without waiting for it; a defect is logged."""
    BLOBS.submit(function).add_done_callback(log_defect)


async def in_slices(items: Iterable[T], size: int = 32) -> list[T]:
    """The items that an iterator works out, `size` without a pause: the event loop does other work in between."""
    rest, found = iter(items), list[T]()
    while part := list(islice(rest, size)):
        found += part
        await asyncio.sleep(0)
    return found


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and return when they have ended."""
    tasks, raised = list(tasks), sys.exception()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task.cancelled() or task.exception() is not raised:
            log_defect(task)


DEFECT = "something went wrong in the mirror; its log says what"
"""The text for clients and pages in place of an unexpected exception's own."""
PAUSE = 60.0
"""Seconds until failed work is started again."""


async def keep_running(
    work: Callable[[], Awaitable[None]], what: str, pause: float = PAUSE
) -> None:
    """Run work until it ends or is cancelled; after an exception, start it again.

    Args:
        work: starts it.
        what: its name in the log.
        pause: seconds from an exception to the next start.
    """
    while True:
        try:
            await work()
        except Exception:
            LOG.exception(
                "work in the background failed, and is started again", work=what, pause=pause
            )
            await asyncio.sleep(pause)
        else:
            return


def log_failure(
    ended: asyncio.Future[Any] | Future[Any], *, expected: tuple[type[BaseException], ...] = ()
) -> None:
    """A done callback: log the exception of work that is not awaited, unless it is an expected one."""
    error = None if ended.cancelled() else ended.exception()
    if error is not None and not isinstance(error, expected):
        LOG.error("work in the background failed", exc_info=error)


log_defect = partial(log_failure, expected=(Foreseen, OSError))
"""The same for work of which a failure of a disk, or one that is raised on purpose, is no defect."""
