"""Hedged requests: a second connection beside one that stalls or hardly delivers; the better one is kept.

A `Response` connects on the first `next`, gives chunks, and is closed once by its user. `hedge` and `hedge_slow` close the one
that they do not return. Slowness alone is no reason to give up: a mirror upstream of us feeds 64 bytes a second while it holds
back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from omaha_mirror.aio.tasks import stop
from omaha_mirror.cache.errors import CacheError, SourceFailed, SourceStalled
from omaha_mirror.cache.source import Body, Validator

Connect = Callable[[AsyncExitStack], Awaitable[Body]]


class Response:
    """Connects on the first `next`, and gives chunks until `close`.

    Args:
        connect: opens the answer, and puts on the stack whatever must be closed with it.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stack = AsyncExitStack()
        self._body: Body | None = None
        self._chunks: AsyncGenerator[bytes] | None = None

    @property
    def validator(self) -> Validator:
        """The generation of the chunks; empty before the first."""
        return self._body.validator if self._body is not None else {}

    async def next(self) -> bytes | None:
        """The next chunk; None at the end.

        Raises:
            SourceStalled: no byte arrives at present; `next` may be called again.
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


Delivered = tuple[Response, bytes | None]
"""The response to go on with, and its next chunk; None at its end."""


async def hedge(
    stalled: Response,
    connect: Connect,
    *,
    pause: Callable[[int, SourceFailed], float],
    worth_it: Callable[[], bool],
) -> Delivered:
    """Ask again at the same offset; the response that delivers first is the one to go on with, the other is closed.

    Silence alone is no failure: lines pause, and a mirror upstream of us may be holding back.

    Args:
        stalled: delivers nothing at present.
        connect: opens another answer at the same offset.
        pause: seconds to wait after the n-th failure to connect.
        worth_it: whether to wait on.

    Raises:
        SourceFailed: both failed, or it is no longer worth it.
        SourceError, GenerationEnded: no other try can help.
    """
    waiting = asyncio.create_task(_next_of(stalled, worth_it))
    asking = asyncio.create_task(
        _ask_again(connect, pause, lambda: not waiting.done() and worth_it(), worth_it)
    )
    tasks = (waiting, asking)
    winner: Response | None = None
    try:
        winner, chunk = await _first_good(waiting, asking)
        return winner, chunk
    finally:
        await stop(tasks)
        ended = [task for task in tasks if not task.cancelled() and task.exception() is None]
        for response in {stalled, *(task.result()[0] for task in ended)} - {winner}:
            await response.close()


async def _next_of(response: Response, worth_it: Callable[[], bool]) -> Delivered:
    return response, await patiently(response, worth_it)


async def _ask_again(
    connect: Connect,
    pause: Callable[[int, SourceFailed], float],
    may_retry: Callable[[], bool],
    worth_it: Callable[[], bool],
) -> Delivered:
    """The first chunk of another response; a failure is tried again while the first response may deliver, too."""
    failures = 0
    while True:
        response = Response(connect)
        try:
            return await _next_of(response, worth_it)
        except SourceFailed as failure:
            await response.close()
            failures += 1
            if not may_retry():
                raise
            await asyncio.sleep(pause(failures, failure))
        except BaseException:
            await response.close()
            raise


async def _first_good(*tasks: asyncio.Task[Delivered]) -> Delivered:
    """The first result; a `SourceFailed` is raised only when all tasks failed."""
    left, failure = set(tasks), SourceFailed("no byte arrived")
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                return task.result()
            except SourceFailed as error:
                failure = error
    raise failure


async def patiently(response: Response, worth_it: Callable[[], bool]) -> bytes | None:
    """The next chunk of a response, however long it stalls, as long as it is worth it. Raises like `Response.next`."""
    while True:
        try:
            return await response.next()
        except SourceStalled as stall:
            if not worth_it():
                raise SourceFailed(str(stall)) from stall


MOST_OF_SLOW = 64 * 1024
"""Bytes in one contest; a connection that delivers more is not slow."""


class Throughput:
    """How fast a connection delivers while a reader waits.

    Args:
        seconds: of waiting that are measured at a time.
        rate: bytes a second below which it is slow.

    Attributes:
        slow: whether it was, when measured last.
    """

    def __init__(self, seconds: float, rate: float) -> None:
        self.slow = False
        self._begun = False
        self._seconds = seconds
        self._rate = rate
        self._count, self._waited = 0, 0.0

    def add(self, count: int, waited: float) -> None:
        """Note bytes, and the seconds until they came; the first call is ignored, as it includes connecting."""
        if not self._begun:
            self._begun = True
            return
        self._count += count
        self._waited += waited
        if self._waited >= self._seconds:
            self.slow = self._count < self._rate * self._waited
            self._count, self._waited = 0, 0.0


async def _tried(response: Response, worth_it: Callable[[], bool]) -> bytes | CacheError | None:
    """The next chunk, None at the end, or why there is none."""
    try:
        return await patiently(response, worth_it)
    except CacheError as error:
        return error


async def hedge_slow(
    slow: Response, connect: Connect, *, seconds: float, worth_it: Callable[[], bool]
) -> tuple[Response, bytes]:
    """Ask again beside a slow connection; gives the one to go on with, and the bytes that it has delivered since.

    Args:
        slow: hardly delivers.
        connect: opens another answer at the same offset.
        seconds: how long the other one has to deliver more.
        worth_it: whether to wait on.

    Raises:
        CacheError: the slow one failed, and the other one too.
    """
    fresh = Response(connect)
    got = {slow: bytearray(), fresh: bytearray()}
    reading = {response: asyncio.create_task(_tried(response, worth_it)) for response in got}
    until, winner = time.monotonic() + seconds, None
    failure: CacheError = SourceFailed("both connections ended early")
    try:
        while winner is None:
            if not reading:
                raise failure
            await asyncio.wait(reading.values(), return_when=asyncio.FIRST_COMPLETED)
            for response in [response for response, task in reading.items() if task.done()]:
                chunk = reading.pop(response).result()
                if isinstance(chunk, CacheError) and response is slow:
                    failure = chunk
                if not isinstance(chunk, bytes):
                    continue
                got[response] += chunk
                over = (
                    fresh not in reading
                    or time.monotonic() > until
                    or len(got[slow]) > MOST_OF_SLOW
                )
                if over if response is slow else len(got[fresh]) > len(got[slow]):
                    winner = response
                    break
                reading[response] = asyncio.create_task(_tried(response, worth_it))
        return winner, bytes(got[winner])
    finally:
        await stop(reading.values())
        for response in {slow, fresh} - {winner}:
            await response.close()
