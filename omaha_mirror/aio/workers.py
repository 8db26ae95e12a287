"""Thread pools for disk access. A disk that hangs without an error blocks only the threads of its own pool.

The event loop's own executor is used for DNS alone. A hanging thread does not keep the process from ending, and its
caller can stop waiting.
"""

from __future__ import annotations

import asyncio
import errno
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 5.0
"""Seconds after which opening, reading or examining a file counts as hanging."""
SLOW = 30.0
"""The same for work that takes long on a slow disk."""


class Hangs(OSError):
    """A disk does not answer.

    Attributes:
        work: the call that hangs; None if none was started.
    """

    def __init__(self, workers: Workers, work: Future[Any] | None = None) -> None:
        super().__init__(errno.ETIMEDOUT, f"{workers.name} does not answer")
        self.work = work
        self._workers = workers

    @property
    def lasts(self) -> bool:
        """Whether the disk still hangs."""
        return self._workers.are_lost() if self.work is None else not self.work.done()


class _Job(Future[Any]):
    """A call; `since` is its start in monotonic seconds, None while it is in the queue."""

    def __init__(self, call: partial[Any]) -> None:
        super().__init__()
        self._call = call
        self.since: float | None = None

    def is_about(self, thing: object) -> bool:
        given = (getattr(self._call.func, "__self__", None), *self._call.args)
        return thing is not None and any(other is thing for other in given)

    def run(self) -> None:
        self.since = time.monotonic()
        if self.set_running_or_notify_cancel():
            try:
                result = self._call()
            except BaseException as error:
                self.set_exception(error)
            else:
                self.set_result(result)


class Workers(Executor):
    """A pool of threads that do not keep the process from ending.

    Args:
        count: number of threads.
        name: of the disk or directory, for people.
        spare: number of further threads that may replace hanging ones.

    Attributes:
        name: the same.
    """

    def __init__(self, count: int, name: str, *, spare: int = 0) -> None:
        self._count = count
        self._most = count + spare
        self.name = name
        self._jobs: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._threads = 0
        self._idle = 0
        self._ended = False
        self._lock = threading.Condition(threading.RLock())

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor.submit`."""
        job = _Job(partial(fn, *args, **kwargs))
        self._put(job)
        return job

    def _put(self, job: _Job) -> None:
        with self._lock:
            self._jobs.append(job)
            self._lock.notify()
            self._grow()

    def _grow(self) -> None:
        """Start a thread for a queued call; up to `spare` hanging threads do not count."""
        fits = self._alive() < self._count and self._threads < self._most
        if self._idle < len(self._jobs) and fits:
            self._threads += 1
            name = f"{self.name} {self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _alive(self) -> int:
        return self._threads - len(self._hanging(None))

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._lock:
                self._running.discard(job)
                if self._alive() > self._count:
                    break
        with self._lock:
            self._threads -= 1

    def _next(self) -> _Job | None:
        """The next call, marked as running; None at the end."""
        with self._lock:
            while not self._jobs:
                if self._ended:
                    return None
                self._idle += 1
                self._lock.wait()
                self._idle -= 1
            job = self._jobs.popleft()
            self._running.add(job)
            return job

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as Executor declares it
        """Let the threads end when the queue is empty, without waiting for them."""
        with self._lock:
            self._ended = True
            self._lock.notify_all()

    def hanging(self, patience: float | None = None) -> int:
        """The number of threads with a call longer than `patience` seconds; None: `PATIENCE`."""
        return len(self._hanging(patience))

    def hang_on(self, thing: object) -> bool:
        """Whether a method of an object, or a call with it as an argument, has taken longer than `PATIENCE`."""
        return any(job.is_about(thing) for job in self._hanging(None))

    def _hanging(self, patience: float | None) -> list[_Job]:
        before = time.monotonic() - (PATIENCE if patience is None else patience)
        with self._lock:
            return [job for job in self._running if job.since is not None and job.since < before]

    def are_lost(self, patience: float | None = None) -> bool:
        """Whether all threads hang."""
        return self.hanging(patience) >= self._count

    async def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and wait for its end, also when this is cancelled."""
        return await self.patiently(math.inf, fn, *args, **kwargs)

    async def patiently(
        self, patience: float | None, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that may hang; a result that comes after `Hangs` is closed.

        A cancellation is raised when the call has ended, or hangs.

        Raises:
            Hangs: it takes longer than `patience` seconds (None: `PATIENCE`), or no thread is free.
        """
        if patience is None:
            patience = PATIENCE
        if self.are_lost(patience):
            raise Hangs(self)
        job = _Job(partial(fn, *args, **kwargs))
        self._put(job)
        ended = asyncio.ensure_future(asyncio.wrap_future(job))
        cancelled: asyncio.CancelledError | None = None
        while not ended.done() and not self._is_given_up(job, patience):
            try:
                await asyncio.wait([ended], timeout=_left(job, patience))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is None and ended.done() and not job.cancelled():
            result: T = ended.result()
            return result
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        job.add_done_callback(_close)
        if cancelled is not None:
            raise cancelled
        raise Hangs(self, job)

    def _is_given_up(self, job: _Job, patience: float) -> bool:
        if job.since is None:
            with self._lock:
                self._grow()
            return self.are_lost(patience) and job.cancel()
        return time.monotonic() - job.since >= patience


def _left(job: _Job, patience: float) -> float | None:
    """Seconds until the next check of a call; None: never."""
    if (since := job.since) is None:
        return min(patience, PATIENCE)
    return None if math.isinf(patience) else max(0.0, since + patience - time.monotonic())


def _close(job: Future[Any]) -> None:
    if not job.cancelled() and job.exception() is None:
        close = getattr(job.result(), "close", None)
        if close is not None:
            close()


BLOBS = Workers(8, "the cache directory", spare=24)
"""For packages' files."""
WORK = Workers(2, "long computations")
"""For computations of more than 10 ms, which would block the event loop."""
STATE = Workers(3, "the state directory")
"""For all other files of the mirror."""
