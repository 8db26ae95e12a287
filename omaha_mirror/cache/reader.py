"""A reader: the position of one request in a blob, proven or growing.

Phases: made (attached to a blob), `window` and `advance` by turns, `close` once. A blob may `cut` it at any time; it then ends,
or moves to another blob where all bytes that were sent are right. The reader owns its offsets; blobs only read them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol, Self

from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache.errors import GenerationEnded, Lost, Stopping, Unreadable, is_unreadable
from omaha_mirror.cache.events import Status
from omaha_mirror.cache.page_cache import loaded
from omaha_mirror.cache.prover import Read
from omaha_mirror.cache.store import Place

WINDOW = 16 * 1024 * 1024
"""Bytes that are sent without a look at the blob; where they are not in memory, they are read before the first of them is sent."""
FIRST = WINDOW // 4
"""The same before the first byte, which somebody waits for."""
MOVES = 5
"""How often a reader moves to another blob because the disk hangs."""

Measure = Callable[[Read], Awaitable[int]]
"""Gives the size of a head in bytes, 0 where there is none. Raises OSError."""


class Readable(Protocol):
    """A blob as readers see it: a fill, or a proven blob."""

    def attach(self, reader: Reader) -> None:
        """Count a reader in."""

    def detach(self, reader: Reader) -> None:
        """Count a reader out."""

    def edge(self, reader: Reader) -> int:
        """The end of the bytes that the reader may have; its own offset where it may have none."""

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie."""

    async def before_send(self, start: int, stop: int) -> None:
        """Note that [start, stop) is about to be sent. Raises Hangs."""

    def sent(self) -> None:
        """Note that a reader has sent bytes."""

    async def wait(self, reader: Reader, /) -> int:
        """Wait until the reader may have bytes; gives their end. Raises CacheError, Hangs."""

    def hangs(self, error: Hangs, reader: Reader, /) -> bool:
        """Note that the disk does not answer; whether all bytes that the reader got are right, so that it may go on."""

    def unreadable(self, reason: str) -> None:
        """Note that released bytes cannot be read. Raises CacheError where the reader cannot have them otherwise."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes that may be sent now, and are in memory: [offset, offset + count) of `file`."""

    file: BinaryIO
    offset: int
    count: int
    on_disk: bool = True

    def first(self, count: int) -> Window:
        """At most so many of them."""
        return replace(self, count=min(count, self.count))


class Reader:
    """Reads [start, stop) of a blob in windows.

    Args:
        find: gives the blob for a reader at an offset, and how it was found; called again when a generation ends
            before the first byte was read, and when its bytes are lost and those that were read were right.
        start: first offset.
        stop: offset after the last.
        measure: gives the size of the blob's head, and reads it where it must.
        client: the name under which it takes its share of the line; "" for none.
        on_close: called once, when it has left.
    """

    def __init__(
        self,
        find: Callable[[int], tuple[Readable, Status]],
        start: int,
        stop: int,
        measure: Measure,
        client: str = "",
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        self.client = client
        self.offset, self.stop = start, stop
        self.start = self.reach = start
        self.since = self.last_sent_at = time.monotonic()
        self.on_cut: Callable[[], None] | None = None
        self._find = find
        self._moves = 0
        self._measure = measure
        self._on_close = on_close
        self.is_cut = False
        self._blob, self.status = find(start)
        self._blob.attach(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, once; the blob stays as it is."""
        self.on_cut = None
        self._blob.detach(self)
        self._on_close()

    def cut(self) -> None:
        """End, as some of the bytes may be wrong. Called by the blob."""
        self.is_cut = True
        if self.on_cut is not None:
            self.on_cut()

    async def head_size(self) -> int:
        """The size of the blob's head in bytes; 0 where it has none, or it cannot be read."""
        with suppress(OSError):
            fd = self._blob.place(0).file.fileno()
            return await self._measure(lambda offset, count: os.pread(fd, count, offset))
        return 0

    def advance(self, count: int) -> None:
        """Note that `count` bytes were sent."""
        self.offset += count
        self.last_sent_at = time.monotonic()
        self._blob.sent()

    def unreadable(self, reason: str) -> None:
        """Note that bytes of the last window cannot be read. Raises CacheError where they cannot be had otherwise."""
        self._blob.unreadable(reason)

    async def window(self) -> Window | None:
        """The next bytes to send, as soon as there are any; None at the end.

        Raises:
            CacheError: nothing more may be sent.
            OSError: the disk failed.
        """
        while self.offset < self.stop:
            edge = await self._edge()
            place = self._blob.place(self.offset)
            most = min(WINDOW, FIRST) if self.offset == self.start else WINDOW
            count = min(min(edge, self.stop) - self.offset, place.count, most)
            window = Window(place.file, place.offset, count, place.on_disk)
            self.reach = max(self.reach, self.offset + count)
            if not await self._loaded(window):
                continue
            try:
                await self._blob.before_send(self.offset, self.offset + count)
            except Hangs as error:
                self._avoid_disk(error)
                continue
            if not self.is_cut:
                return window
        return None

    async def _loaded(self, window: Window) -> bool:
        try:
            await loaded(window.file, window.offset, window.count, on_disk=window.on_disk)
        except Hangs as error:
            self._avoid_disk(error)
            return False
        except OSError as error:
            if not is_unreadable(error):
                raise
            self._blob.unreadable(f"cannot be read at {self.offset}: {error.strerror}")
            return False
        return True

    async def _edge(self) -> int:
        while True:
            if self.is_cut:
                if self.offset > self.start:
                    raise GenerationEnded("the bytes sent so far cannot be continued")
                self._look_up_again()
            try:
                edge = self._blob.edge(self)
                return edge if edge > self.offset else await self._blob.wait(self)
            except Lost:
                if not self.is_cut:
                    self._look_up_again()
            except Hangs as error:
                self._avoid_disk(error)
            except (GenerationEnded, Stopping, Unreadable):
                if self.offset > self.start:
                    raise
                self._look_up_again()

    def _avoid_disk(self, error: Hangs) -> None:
        """Go on with bytes of upstream, as the disk does not answer. Raises Hangs where that cannot be."""
        if not self._blob.hangs(error, self) and self.offset > self.start:
            raise error
        self._moves += 1
        if self._moves > MOVES:
            raise error
        self._look_up_again()

    def _look_up_again(self) -> None:
        """Look the blob up again and go on at the same offset: no byte was sent, or none that may be wrong."""
        self._blob.detach(self)
        self.is_cut = False
        self.reach = self.offset
        self._blob, self.status = self._find(self.offset)
        self._blob.attach(self)
