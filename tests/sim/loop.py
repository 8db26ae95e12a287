"""An event loop whose time is virtual, and whose order follows from a seed.

Nothing waits: when nothing is ready, the time jumps to the next timer. What `call_soon` takes stays in its order, as asyncio
promises. The seed says how long each step takes, and which of the timers that are due at one moment comes first; the network
and the threads of `tests.sim` are timers too, so it says in which order their news arrives.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import random
import sys
import warnings
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

if TYPE_CHECKING:
    from tests.sim.net import Net

T = TypeVar("T")
STEP = 2e-5
"""Seconds that one step of the loop takes at most."""
MOST_STEPS = 3_000_000
"""Steps of a run, which is endless else."""
NOBODY = Context()
"""The context of what no process does: the network, and the threads of all."""


class Stuck(Exception):
    """Nothing will ever happen any more, or too much happens."""


class Process:
    """One process on one machine.

    Args:
        name: for the story.
        address: of the machine.

    Attributes:
        alive: False from its end on: nothing of it runs any more.
        ahead: seconds by which the clock of its machine is ahead.
        boots: how often the machine had no power before.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.alive = True
        self.ahead = 0.0
        self.boots = 0


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimTask(asyncio.Task[Any]):
    """A task that sets order by its number, not by its address."""

    def __init__(self, number: int, *args: Any, **more: Any) -> None:
        self.number = number
        context: Context | None = more.get("context")
        self.process = PROCESS.get() if context is None else context.get(PROCESS)
        super().__init__(*args, **more)

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any]):
    """A future of which the same is true."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """See above.

    Args:
        rng: decides.
        tell: told of what asyncio finds wrong.

    Attributes:
        steps: how many there were.
        after_step: what is to be done as soon as the step under way is over.
    """

    net: Net

    def __init__(self, rng: random.Random, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.steps = 0
        self.after_step: list[Callable[[], None]] = []
        self._now = 0.0
        self._chance = rng.random
        self._numbers = 0
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._begun: list[SimTask] = []
        self._buried: list[object] = []
        """What a process that ended was about to do: when its memory is freed, its `finally` clauses run."""
        self._tell = tell
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]
        self.set_exception_handler(_report)

    # Processes

    def start(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that a process does, with all that comes of it."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return self.create_task(work, context=context)

    def tasks(self, process: Process) -> list[SimTask]:
        """What a process has begun and not ended."""
        return [task for task in self._begun if task.process is process and not task.done()]

    def kill(self, process: Process) -> None:
        """End a process between two of its steps: its kernel closes its sockets, and no code of it runs any more."""
        process.alive = False
        self.net.on_end(process)

    def close(self) -> None:
        """Forget all that is still going on: nothing of it runs any more, and nothing is said of it."""
        super().close()
        self._timers.clear()
        for task in self._begun:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        with warnings.catch_warnings(), patch.object(sys, "unraisablehook", lambda _: None):
            warnings.simplefilter("ignore")
            asyncio._set_running_loop(
                self
            )  # else `finally` clauses would make a real one, and leave it open
            self._begun.clear()
            self._buried.clear()
            self.net.close()
            gc.collect()
            asyncio._set_running_loop(None)

    def _new_task(self, _: object, work: Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:
        self._numbers += 1
        task = SimTask(self._numbers, work, loop=self, name=f"task {self._numbers}", **more)
        self._begun.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """See `asyncio.loop.create_future`."""
        self._numbers += 1
        future = SimFuture(loop=self)
        future.number = self._numbers
        return future

    # Time

    def time(self) -> float:
        """Virtual seconds since the beginning of the run."""
        return self._now

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_at`."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._chance(), self._numbers, timer))
        return timer

    def _run_once(self) -> None:
        timers, ready = self._timers, self._ready  # type: ignore[attr-defined]
        while timers and timers[0][3].cancelled():
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise Stuck("nothing will ever happen any more")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[3])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and not process.alive:
                self._buried.append(handle)
                continue
            self._now += STEP * self._chance()
            self.steps += 1
            handle._run()
            while self.after_step:
                self.after_step.pop(0)()
            if self._stopping:  # type: ignore[attr-defined]
                return
        if self.steps > MOST_STEPS:
            raise Stuck(f"more than {MOST_STEPS} steps")

    def _write_to_self(self) -> None:
        """There is no other thread."""

    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        """No signal comes."""

    # The world outside

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:  # type: ignore[override]
        """See `asyncio.loop.run_in_executor`; `tests.sim.threads` has the executors of the mirror."""
        assert executor is not None, "the loop's own executor has real threads"
        return super().run_in_executor(executor, func, *args)

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Every name is an address."""
        return [(2, 1, 6, "", (host, port))]

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Call back when a listening socket has a connection."""
        fd.watch(callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """Do not."""
        return bool(fd.watch(None, ()))

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        """See `asyncio.loop.create_server`."""
        return await self.net.create_server(protocol_factory, host, port, **more)

    async def create_connection(
        self,
        protocol_factory: Any,
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **_: Any,
    ) -> Any:
        """See `asyncio.loop.create_connection`."""
        connected = sock or await self.net.connect(host, port)
        return await self.net.attach(protocol_factory, connected)

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **_: Any) -> Any:
        """See `asyncio.loop.connect_accepted_socket`."""
        return await self.net.attach(protocol_factory, sock)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if type(error).__name__ == "Dead":  # the disk's own, of a process that ends after this step
        return
    if isinstance(error, asyncio.CancelledError):  # StreamReaderProtocol, of an upstream that drops
        return
    words = f"{context.get('message')}: {type(error).__name__} {error}"
    loop._tell(words)  # type: ignore[attr-defined]
