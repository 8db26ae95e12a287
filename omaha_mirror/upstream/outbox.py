"""Requests on their way upstream: taken in at once, kept on disk, sent one after the other.

Nobody waits for them. `put` only takes a request into memory; a worker writes it to disk soon after, and it goes there
only if it was not sent by then. An outage keeps everything, within bounds, and what is beyond them goes oldest first.
Upstream's definite refusal ends a request.

On disk are segments, files of JSON lines: `{"number": N, "request": "<?xml ..."}` is a request, and `{"done": N}` says
that none up to this number is to be sent any more. A segment goes when that holds for all in it. So a killed process
loses what came in its last 250 ms, and sends again what it sent in them: upstream may get a request twice. A power cut
costs what the kernel had not yet written. A line that cannot be read costs itself and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omaha_mirror.files import restore, restore_folder
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Forbidden,
    Gone,
    TooLarge,
    UpstreamError,
)
from omaha_mirror.upstream.resume import backoff
from omaha_mirror.workers import Workers

MAX_COUNT = 10_000
MAX_BYTES = 16 * 1024 * 1024
SEGMENT = 256 * 1024
"""Bytes after which a segment is full: what the disk may hold beyond what is to be sent."""
BATCH = 0.2
"""Seconds in which requests gather before they are written; the write comes on top."""
RETRY = 5.0
"""Seconds until a disk that refused is tried again."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """What became of the requests since the start.

    Attributes:
        queued: still to be sent, those found on disk at the start included.
        sent: taken by upstream.
        dropped: given up for newer ones, because there were too many.
        refused: given up because upstream will never take them.
    """

    queued: int
    sent: int
    dropped: int
    refused: int


def is_refusal(error: UpstreamError) -> bool:
    """Whether upstream said no, and would say so again; everything else is an outage.

    408 and 429 ask for another attempt (RFC 9110, 15.5.9; RFC 6585, 4).
    """
    if isinstance(error, BadStatus):
        return 400 <= error.status < 500 and error.status not in (408, 429)
    return isinstance(error, (Gone, Forbidden, TooLarge, BadAnswer))


class _Entry(NamedTuple):
    number: int
    line: bytes

    @property
    def request(self) -> bytes:
        text: str = json.loads(self.line)["request"]
        return text.encode()


class Outbox:
    """A queue of requests for one upstream server.

    Args:
        path: the directory of the segments; made when something has to be written.
        send: posts a request within its own deadline; raises UpstreamError.
        max_count: requests that may be waiting.
        max_bytes: bytes that they may have, as lines.
        rng: for the jitter between attempts.
    """

    def __init__(
        self,
        path: Path,
        send: Callable[[bytes], Awaitable[object]],
        *,
        max_count: int = MAX_COUNT,
        max_bytes: int = MAX_BYTES,
        rng: random.Random | None = None,
    ) -> None:
        self._send = send
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._rng = rng or random.Random()
        self._journal = _Journal(path)
        self._queue: deque[_Entry] = deque()
        self._size = 0
        self._newest = 0
        self._sending = False
        self._refusal = ""
        self._sent = self._dropped = self._refused = 0
        self._filled = asyncio.Event()
        self._changed = asyncio.Event()
        self._disk_refuses = False
        self._tasks: list[asyncio.Task[None]] = []
        # One thread: the segments are written by one at a time, also when whoever waited was cancelled.
        self._disk = Workers(1, "the outbox")

    @property
    def stats(self) -> OutboxStats:
        """The counts now."""
        return OutboxStats(len(self._queue), self._sent, self._dropped, self._refused)

    async def start(self) -> None:
        """Take up what is on disk, and begin to send. Before it, nothing may be put."""
        loop = asyncio.get_running_loop()
        entries = await loop.run_in_executor(self._disk, self._journal.load, self._max_bytes)
        self._newest = self._journal.newest
        for entry in entries:
            self._take(entry)
        self._tasks = [asyncio.create_task(w) for w in (self._deliver(), self._write_behind())]

    async def close(self) -> None:
        """Stop sending, and write down what is left."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._flush()
        finally:
            self._disk.shutdown()

    def put(self, request: bytes) -> None:
        """Take in a request, UTF-8 as `serialise_request` writes it. It never waits and knows no full disk."""
        number = self._newest = self._newest + 1
        self._take(_Entry(number, _line({"number": number, "request": request.decode()})))

    def _take(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._size += len(entry.line)
        while len(self._queue) > self._max_count or self._size > self._max_bytes:
            if not self._dropped:
                LOG.warning("too many requests wait for upstream: from now on the oldest go")
            self._dropped += 1
            # The one under way is no longer to be had back.
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
        while True:
            await self._filled.wait()
            trouble = await self._offer(self._queue[0])
            if trouble is None:
                if failures:
                    LOG.info("upstream takes requests again; %d wait", len(self._queue))
                failures = 0
                continue
            if not failures:
                LOG.warning("upstream takes no requests now, they are kept: %s", trouble)
            retry_after = trouble.retry_after if isinstance(trouble, BadStatus) else None
            await asyncio.sleep(backoff(failures, self._rng, retry_after))
            failures += 1

    async def _offer(self, entry: _Entry) -> UpstreamError | OSError | None:
        """Send the oldest request and be done with it, unless there is an outage: then say which."""
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
                LOG.warning("upstream refuses a request, and each such is dropped: %s", error)
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
        """Bring the disk up to date. What it refuses stays in memory: it is said, and tried again."""
        entries = list(self._queue)
        done = entries[0].number - 1 if entries else self._newest
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, self._journal.write, entries, done)
        except OSError as error:
            if not self._disk_refuses:
                LOG.error("requests for upstream would not survive a restart: %s", error)
            self._disk_refuses = True
            self._changed.set()
        else:
            self._disk_refuses = False


class _Journal:
    """The segments. Everything here waits for the disk, and belongs to one thread.

    Attributes:
        newest: the greatest number that was ever on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.newest = 0
        self._folder = folder
        # The greatest number in each, oldest segment first.
        self._segments: dict[Path, int] = {}
        self._names = 0
        self._room = 0
        self._done = 0

    def load(self, limit: int) -> list[_Entry]:
        """The requests that are still to be sent; a file with much more than `limit` bytes is put aside."""
        found: dict[int, _Entry] = {}
        restore_folder(self._folder, "requests for upstream are lost")
        for path in sorted(self._folder.glob("*.jsonl")):
            if not path.stem.isdecimal():
                continue
            self._names = max(self._names, int(path.stem))
            lines = restore(path, limit + SEGMENT, _lines, "what waits in it is not sent")
            if lines is None:
                continue
            damaged = last = 0
            for line in lines:
                try:
                    number, done = _read(line)
                except (ValueError, LookupError, TypeError, RecursionError):
                    damaged += 1
                    continue
                last = max(last, number)
                if done:
                    self._done = max(self._done, number)
                else:
                    found[number] = _Entry(number, line)
            if damaged:
                LOG.error("%s: damaged lines are skipped, %d of them", path, damaged)
            self._segments[path] = last
            self.newest = max(self.newest, last)
        return [found[number] for number in sorted(found) if number > self._done]

    def write(self, entries: list[_Entry], done: int) -> None:
        """Add what is not on disk yet, and remove what is done. Raises OSError; it can be called again."""
        for path, last in list(self._segments.items()):
            if last > done:
                break
            path.unlink(missing_ok=True)
            del self._segments[path]
        if not self._segments:
            self._room = 0
        for entry in entries:
            if entry.number > self.newest:
                self._append(entry.line, entry.number)
                self.newest = entry.number
        if self._segments and done > self._done:
            self._append(_line({"done": done}), done)
        self._done = max(self._done, done)

    def _append(self, line: bytes, number: int) -> None:
        if self._room <= 0:
            self._names += 1
            self._room = SEGMENT
            self._segments[self._folder / f"{self._names:012d}.jsonl"] = 0
        path = next(reversed(self._segments))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(fd, line)
        finally:
            os.close(fd)
        self._segments[path] = max(self._segments[path], number)
        self._room -= len(line)


def _write_whole(fd: int, line: bytes) -> None:
    """Add a line, or nothing: half of one would spoil the next."""
    size = os.fstat(fd).st_size
    left = memoryview(line)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
        raise


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _read(line: bytes) -> tuple[int, bool]:
    """The number of a request, or True and the number up to which all are done."""
    record = json.loads(line)
    done = "done" in record
    number = record["done" if done else "number"]
    if not isinstance(number, int) or not 0 < number < 1 << 62:
        raise ValueError("not a number of a request")
    if not done and not isinstance(record["request"], str):
        raise TypeError("not a request")
    return number, done
