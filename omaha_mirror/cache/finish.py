"""Work that runs to its end although whoever waits for it is cancelled.

A thread cannot be cancelled. Whoever goes on before it has ended closes or renames files under its hands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from omaha_mirror.workers import BLOBS

P = ParamSpec("P")
T = TypeVar("T")


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
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()


async def in_worker(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread of those for packages' files; see `finish`."""
    return await BLOBS.call(function, *args, **kwargs)
