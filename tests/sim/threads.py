"""The mirror's threads as events of the loop: each call runs in one step, some time after it was handed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any
from unittest.mock import patch

from omaha_mirror.aio.workers import Workers
from tests.sim.loop import NOBODY, PROCESS, SimLoop


@contextmanager
def as_events(
    loop: SimLoop,
    delay: Callable[[], float],
    begin: Callable[[], None] = lambda: None,
    end: Callable[[], float] = lambda: 0.0,
) -> Iterator[None]:
    """Within it no worker has a thread.

    Args:
        loop: runs the calls.
        delay: gives the seconds that a call takes; what it does, it does at their end.
        begin, end: called around a call; the second gives seconds that its result is late besides.
    """
    queues: dict[Workers, deque[Any]] = {}
    calls = ExitStack()

    def put(workers: Workers, job: Any) -> None:
        if workers not in queues:  # a thread that a real event loop left behind may still run
            queues[workers] = deque()
            calls.enter_context(patch.object(workers, "_running", set()))
        job.process, job.context = PROCESS.get(), copy_context()
        queues[workers].append(job)
        look(workers)

    def look(workers: Workers) -> None:
        while queues[workers] and _has_room(workers):
            job = queues[workers].popleft()
            workers._running.add(job)
            job.since = loop.time()
            loop.call_later(delay(), work, workers, job, context=NOBODY.copy())

    def work(workers: Workers, job: Any) -> None:
        late, result = 0.0, None
        if _is_wanted(job):
            begin()
            result = job.context.run(_called, job)
            late = end()
        if late > 0:
            loop.call_later(late, done, workers, job, result, context=NOBODY.copy())
        else:
            done(workers, job, result)

    def done(workers: Workers, job: Any, result: Future[Any] | None) -> None:
        workers._running.discard(job)
        if result is not None and (job.process is None or job.process.alive):
            if (error := result.exception()) is not None:
                job.set_exception(error)
            else:
                job.set_result(result.result())
        look(workers)

    with calls, patch.object(Workers, "_put", put), patch.object(Workers, "_grow", look):
        yield


def _is_wanted(job: Any) -> bool:
    alive = job.process is None or job.process.alive
    return alive and bool(job.set_running_or_notify_cancel())


def _called(job: Any) -> Future[Any]:
    """What a call came to."""
    found = Future[Any]()
    try:
        found.set_result(job._call())
    except BaseException as error:
        found.set_exception(error)
    return found


def _has_room(workers: Workers) -> bool:
    running = len(workers._running)
    alive = running - len(workers._hanging(None))
    return alive < workers._count and running < workers._most
