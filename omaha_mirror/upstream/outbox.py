"""The outbox: reports for upstream, queued in memory, stored on disk, sent in order.

`put` never waits. A worker writes a request to disk soon after, unless it was sent by then. During an outage the queue
grows to its limits, beyond which the oldest requests are dropped. A request that upstream refuses is dropped.

For the files see `segments`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from omaha_mirror.aio.tasks import keep_running, stop
from omaha_mirror.aio.workers import Workers
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Forbidden,
    Gone,
    TooLarge,
    UpstreamError,
)
from omaha_mirror.upstream.resume import backoff
from omaha_mirror.upstream.segments import Entry, Segments, line_of

MAX_COUNT = 10_000
MAX_BYTES = 16 * 1024 * 1024
BATCH = 0.2
"""Seconds from a request to the write of its batch."""
LAST_ANSWER = 1.0
"""Seconds that a stop waits for the answer to a request: one that is cut is sent again, and may be counted twice."""
RETRY = 5.0
"""Seconds from a failed write to the next."""
LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """Numbers of requests since the start.

    Attributes:
        queued: to be sent, stored ones of an earlier process included.
        sent: accepted by upstream.
        dropped: removed because there were too many.
        refused: removed because upstream refused them.
    """

    queued: int
    sent: int
    dropped: int
    refused: int


def is_refusal(error: UpstreamError) -> bool:
    """Whether upstream refused a request, and would refuse it again; all other errors are outages.

    408 and 429 ask for a retry (RFC 9110, 15.5.9; RFC 6585, 4).
    """
    if isinstance(error, BadStatus):
        return 400 <= error.status < 500 and error.status not in (408, 429)
    return isinstance(error, (Gone, Forbidden, TooLarge, BadAnswer))


class Outbox:
    """A queue of requests for one upstream server.

    Args:
        path: the directory of the segments; created by the first write.
        send: posts a request within its own deadline; raises UpstreamError.
        max_count: greatest number of queued requests.
        max_bytes: greatest sum of their lines.
        rng: for jitter between retries.
    """

    def __init__(
        self,
        path: Path,
        send: Callable[[bytes], Awaitable[object]],
        *,
        max_count: int = MAX_COUNT,
        max_bytes: int = MAX_BYTES,
        rng: random.Random,
    ) -> None:
        self._send = send
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._rng = rng
        self._segments = Segments(path)
        self._queue: deque[Entry] = deque()
        self._size = 0
        self._newest = 0
        self._sending = self._closing = False
        self._refusal = ""
        self._sent = self._dropped = self._refused = 0
        self._filled = asyncio.Event()
        self._changed = asyncio.Event()
        self._disk_refuses = False
        self._tasks: list[asyncio.Task[None]] = []
        # One thread keeps the order of the writes, also when a caller is cancelled.
        self._disk = Workers(1, "the outbox")

    @property
    def stats(self) -> OutboxStats:
        """The counts now."""
        return OutboxStats(len(self._queue), self._sent, self._dropped, self._refused)

    async def start(self) -> None:
        """Read the files, and start to send. `put` must not be called before."""
        loop = asyncio.get_running_loop()
        entries = await loop.run_in_executor(self._disk, self._segments.load, self._max_bytes)
        self._newest = self._segments.newest
        for entry in entries:
            self._take(entry)
        self._tasks = [
            asyncio.create_task(keep_running(self._deliver, "sending requests to upstream")),
            asyncio.create_task(keep_running(self._write_behind, "storing requests for upstream")),
        ]

    async def close(self) -> None:
        """Stop sending, when what is being sent is answered or has had a moment; write the queued requests."""
        self._closing = True
        try:
            if self._sending:
                await asyncio.wait(self._tasks[:1], timeout=LAST_ANSWER)
            await stop(self._tasks)
            await self._flush()
        finally:
            self._disk.shutdown()

    def put(self, request: bytes) -> None:
        """Queue a request, as `serialise_request` writes it. Never waits, never raises."""
        number = self._newest = self._newest + 1
        self._take(Entry(number, line_of({"number": number, "request": request.decode()})))

    def _take(self, entry: Entry) -> None:
        self._queue.append(entry)
        self._size += len(entry.line)
        while len(self._queue) > self._max_count or self._size > self._max_bytes:
            if not self._dropped:
                LOG.warning(
                    "too many requests wait for upstream; from now on the oldest are dropped"
                )
            self._dropped += 1
            # The one that is being sent cannot be dropped.
            self._remove(1 if self._sending else 0)
        if self._queue:
            self._filled.set()
        self._changed.set()

    def _remove(self, index: int) -> None:
        self._size -= len(self._queue[index].line)
        del self._queue[index]
        if not self._queue:
            self._filled.clear()
        self._changed.set()

    # To upstream

    async def _deliver(self) -> None:
        failures = 0
        while not self._closing:
            await self._filled.wait()
            trouble = await self._offer(self._queue[0])
            if self._closing:
                break
            if trouble is None:
                if failures:
                    LOG.info("upstream accepts requests again", waiting=len(self._queue))
                failures = 0
                continue
            if not failures:
                LOG.warning(
                    "upstream accepts no requests at the moment; they are queued", why=str(trouble)
                )
            retry_after = trouble.retry_after if isinstance(trouble, BadStatus) else None
            await asyncio.sleep(backoff(failures, self._rng, retry_after))
            failures += 1

    async def _offer(self, entry: Entry) -> UpstreamError | OSError | None:
        """Send the oldest request, and remove it unless there is an outage: then gives its error."""
        self._sending = True
        try:
            await self._send(entry.request)
            self._sent += 1
            self._refusal = ""
        except (UpstreamError, OSError) as error:
            if not isinstance(error, UpstreamError) or not is_refusal(error):
                return error
            self._refused += 1
            if str(error) != self._refusal:
                LOG.warning(
                    "upstream refuses a request; it and others like it are dropped", why=str(error)
                )
            self._refusal = str(error)
        except Exception:
            self._refused += 1
            LOG.exception("a request cannot be sent and is dropped")
        finally:
            self._sending = False
        self._remove(0)
        return None

    # To disk

    async def _write_behind(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(RETRY if self._disk_refuses else BATCH)
            self._changed.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Write the changes. After a failure, which is logged, they stay in memory for the next write."""
        entries = list(self._queue)
        done = entries[0].number - 1 if entries else self._newest
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, self._segments.write, entries, done)
        except OSError as error:
            if not self._disk_refuses:
                LOG.error("requests for upstream would not survive a restart", why=str(error))
            self._disk_refuses = True
            self._changed.set()
        else:
            self._disk_refuses = False
