"""Tasks that end as they should: work that runs to its end although its caller is cancelled, and work in the background.

A thread cannot be cancelled. Whoever goes on before it has ended closes or renames files that it still uses.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from functools import partial
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


DEFECT = "something went wrong in the mirror; its log says what"
"""What people are told of an error that nobody foresaw, in place of its own words."""
PAUSE = 60.0
"""Seconds until what failed is begun again."""


async def keep_running(
    work: Callable[[], Awaitable[None]], what: str, pause: float = PAUSE
) -> None:
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


def log_failure(
    ended: asyncio.Future[Any] | Future[Any], *, expected: tuple[type[BaseException], ...] = ()
) -> None:
    """A done callback: log the exception of work whose result is not awaited, unless it is an expected one."""
    error = None if ended.cancelled() else ended.exception()
    if error is not None and not isinstance(error, expected):
        LOG.error("work in the background failed", exc_info=error)


log_defect = partial(log_failure, expected=(Foreseen, OSError))
"""The same for work of which a failure of a disk, or one that is raised on purpose, is no defect."""
