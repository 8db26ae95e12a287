"""The mirror's threads as events of the loop: each call runs in one step, some time after it was handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from unittest.mock import patch

from omaha_mirror.aio.workers import Workers
from tests.sim.loop import NOBODY, PROCESS, SimLoop


@contextmanager
def as_events(loop: SimLoop, delay: Callable[[], float]) -> Iterator[None]:
    """Within it no worker has a thread.

    Args:
        loop: runs the calls.
        delay: gives the seconds that a call takes; what it does, it does at their end.
    """
    used: dict[int, Workers] = {}

    def put(workers: Workers, job: Any) -> None:
        used[id(workers)] = workers
        job.process, job.context = PROCESS.get(), copy_context()
        workers._jobs.append(job)
        begin(workers)

    def begin(workers: Workers) -> None:
        while workers._jobs and _has_room(workers):
            job = workers._jobs.popleft()
            workers._running.add(job)
            job.since = loop.time()
            loop.call_later(delay(), end, workers, job, context=NOBODY.copy())

    def end(workers: Workers, job: Any) -> None:
        workers._running.discard(job)
        if job.process is None or job.process.alive:
            job.context.run(job.run)
        begin(workers)

    with patch.object(Workers, "_put", put), patch.object(Workers, "_grow", begin):
        try:
            yield
        finally:
            for workers in used.values():
                workers._jobs.clear()
                workers._running.clear()


def _has_room(workers: Workers) -> bool:
    running = len(workers._running)
    alive = running - len(workers._hanging(None))
    return alive < workers._count and running < workers._most
