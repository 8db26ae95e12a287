"""One upstream answer, from the connection to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from omaha_mirror.aio.finish import stop
from omaha_mirror.cache.errors import SourceFailed, SourceStalled
from omaha_mirror.cache.source import Body, Validator

Connect = Callable[[AsyncExitStack], Awaitable[Body]]


class Flow:
    """Connects on the first `next`, and gives chunks until `close`.

    Args:
        connect: opens the answer; what must be closed with it goes on the stack.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stack = AsyncExitStack()
        self._body: Body | None = None
        self._chunks: AsyncGenerator[bytes] | None = None

    @property
    def validator(self) -> Validator:
        """Of the generation that the chunks belong to; nothing before the first."""
        return self._body.validator if self._body is not None else {}

    async def next(self) -> bytes | None:
        """The next chunk; None at the end.

        Raises:
            SourceStalled: nothing comes at present; may be called again.
            SourceError, GenerationEnded: nothing will come.
        """
        if self._body is None:
            try:
                self._body = await self._connect(self._stack)
            except SourceStalled as error:
                raise SourceFailed(str(error)) from error
        if self._chunks is None:
            self._chunks = self._body.chunks()
        try:
            return await anext(self._chunks, None)
        except SourceStalled:
            self._chunks = None
            raise

    async def close(self) -> None:
        """Close the connection."""
        if self._chunks is not None:
            await self._chunks.aclose()
        await self._stack.aclose()


async def race(
    stalled: Flow,
    connect: Connect,
    *,
    pause: Callable[[int, SourceFailed], float],
    worth_it: Callable[[], bool],
) -> tuple[Flow, bytes | None]:
    """Ask again at the same offset; what delivers first is gone on with, the other is closed.

    Silence alone is no failure: lines pause, and a mirror upstream of us may be holding back.

    Args:
        stalled: delivers nothing at present.
        connect: opens another answer at the same offset.
        pause: seconds to wait after the n-th failure to connect.
        worth_it: whether to wait on.

    Raises:
        SourceFailed: both are dead, or it is no longer worth it.
        SourceError, GenerationEnded: there is nothing to hope for.
    """

    async def wait_on() -> tuple[Flow, bytes | None]:
        return stalled, await patiently(stalled, worth_it)

    async def ask_again() -> tuple[Flow, bytes | None]:
        failures = 0
        while True:
            flow = Flow(connect)
            try:
                return flow, await patiently(flow, worth_it)
            except SourceFailed as failure:
                await flow.close()
                failures += 1
                if waiting.done() or not worth_it():
                    raise
                await asyncio.sleep(pause(failures, failure))
            except BaseException:
                await flow.close()
                raise

    waiting = asyncio.create_task(wait_on())
    asking = asyncio.create_task(ask_again())
    winner: Flow | None = None
    try:
        winner, chunk = await _first_good(waiting, asking)
        return winner, chunk
    finally:
        tasks = (waiting, asking)
        await stop(tasks)
        ended = [task for task in tasks if not task.cancelled() and task.exception() is None]
        flows = {stalled, *(task.result()[0] for task in ended)}
        for flow in flows - {winner}:
            await flow.close()


async def _first_good(
    *tasks: asyncio.Task[tuple[Flow, bytes | None]],
) -> tuple[Flow, bytes | None]:
    """The first result; a failure counts when it is the last hope, or final."""
    left, failure = set(tasks), SourceFailed("nothing came")
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                return task.result()
            except SourceFailed as error:
                failure = error
    raise failure


async def patiently(flow: Flow, worth_it: Callable[[], bool]) -> bytes | None:
    """The next chunk of a flow, however long it stalls, as long as it is worth it. Raises like `Flow.next`."""
    while True:
        try:
            return await flow.next()
        except SourceStalled as stall:
            if not worth_it():
                raise SourceFailed(str(stall)) from stall
