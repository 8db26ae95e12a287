"""A file upstream, in memory, that does what a test says. Implements the cache's `Source`."""

import asyncio
import hashlib
import os
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from omaha_mirror.cache import Expected, Validator
from omaha_mirror.cache.errors import SourceChanged, SourceFailed, SourceStalled

CHUNK = 16 * 1024


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def random_source(size: int) -> "ScriptedSource":
    return ScriptedSource(os.urandom(size))


@dataclass
class Gate:
    """Holds back every connection that is about to send the byte at one offset."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    passable: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        self.passable.set()


@dataclass(eq=False)
class Stall(Gate):
    """The first connection that is about to send the byte at one offset says that nothing comes, and then waits.

    When it may go on it delivers, or fails with `failure`.
    """

    victim: "ScriptedBody | None" = None
    failure: Exception | None = None


@dataclass(frozen=True)
class Open:
    """One connection that the cache asked for."""

    start: int
    stop: int
    validator: Validator | None


class ScriptedSource:
    """Serves `data`, counts what it is asked and what it sent."""

    def __init__(self, data: bytes) -> None:
        self.name = "http://upstream.test/file"
        self.data = data
        self.generation = 1
        self.opens: list[Open] = []
        self.connected = 0
        self.most_connected = 0
        self.sent = 0
        self.refusals: deque[Exception] = deque()
        self.drops: set[int] = set()
        self.flips: Counter[int] = Counter()
        """How often the byte at an offset is still sent wrong."""
        self.pauses: list[int] = []
        self.pause_seconds = 0.0
        self.shift = 0
        self.chunk = CHUNK
        self.nodes: deque[tuple[str, bytes]] = deque()
        """Etag and bytes of those that answer the next connections, as long as there are any."""
        self.drips: deque[int] = deque()
        """How many bytes the next connections give one by one, and slowly, before all others."""
        self._gates: dict[int, Gate] = {}
        self._stalls: dict[int, Stall] = {}

    @property
    def expected(self) -> Expected:
        digest = hashlib.sha256(self.data).digest()
        return Expected(len(self.data), sha256=digest, source=self.name)

    @property
    def unnamed(self) -> Expected:
        """Where nobody tells a digest."""
        return Expected(len(self.data), source=self.name)

    def gate(self, offset: int) -> Gate:
        return self._gates.setdefault(offset, Gate())

    def stall(self, offset: int) -> Stall:
        return self._stalls.setdefault(offset, Stall())

    def replace(self, data: bytes) -> None:
        """From now on another file is served under the same name."""
        self.data = data
        self.generation += 1

    @asynccontextmanager
    async def open(
        self, start: int, stop: int, validator: Validator | None
    ) -> AsyncIterator["ScriptedBody"]:
        self.opens.append(Open(start, stop, validator))
        if self.refusals:
            raise self.refusals.popleft()
        etag, data = self.nodes.popleft() if self.nodes else (f'"{self.generation}"', self.data)
        mine: Validator = {"etag": etag, "date": str(len(self.opens))}
        if validator is not None and validator["etag"] != etag:
            raise SourceChanged(f"{self.name} was replaced")
        self.connected += 1
        self.most_connected = max(self.connected, self.most_connected)
        try:
            drip = self.drips.popleft() if self.drips else 0
            yield ScriptedBody(self, start + self.shift, stop, mine, data, drip)
        finally:
            self.connected -= 1

    def pause(self, attempt: int, failure: SourceFailed) -> float:
        self.pauses.append(attempt)
        return self.pause_seconds

    async def passed(self, offset: int, body: "ScriptedBody") -> None:
        """Return when a connection may send the byte at `offset`."""
        stall = self._stalls.get(offset)
        if stall and stall.victim is None:
            stall.victim = body
            raise SourceStalled(f"nothing from {self.name} at {offset}")
        if stall and stall.victim is body:
            stall.reached.set()
            await stall.passable.wait()
            if stall.failure:
                raise stall.failure
            return
        if gate := self._gates.get(offset):
            gate.reached.set()
            await gate.passable.wait()
        if offset in self.drops:
            self.drops.discard(offset)
            raise SourceFailed(f"{self.name} dropped at {offset}")

    def damaged(self, start: int, chunk: bytes) -> bytes:
        """A chunk as it is sent."""
        for at in [at for at in +self.flips if start <= at < start + len(chunk)]:
            self.flips[at] -= 1
            chunk = flipped(chunk, at - start)
        return chunk

    def chunk_end(self, offset: int, stop: int) -> int:
        """Chunks end where a gate, a stall or a drop is."""
        marks = (mark for mark in (*self._gates, *self._stalls, *self.drops) if mark > offset)
        return min([offset + self.chunk, stop, *marks])


@dataclass(eq=False)
class ScriptedBody:
    """One answer; implements the cache's `Body`."""

    source: ScriptedSource
    start: int
    stop: int
    validator: Validator
    data: bytes
    drip: int = 0

    def __post_init__(self) -> None:
        self.at = self.start

    async def chunks(self) -> AsyncGenerator[bytes]:
        while self.at < self.stop:
            await self.source.passed(self.at, self)
            start, self.at = self.at, self.source.chunk_end(self.at, self.stop)
            if self.drip > 0:
                self.drip, self.at = self.drip - 1, start + 1
                await asyncio.sleep(0.002)
            self.source.sent += self.at - start
            yield self.source.damaged(start, self.data[start : self.at])
