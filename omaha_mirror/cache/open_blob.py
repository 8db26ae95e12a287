"""A proven blob with readers: being opened, then one open file for all of them.

`Opening` ends when the file is open, or cannot be; readers then look the blob up again and find a `ProvenBlob`. That one serves
until it is lost (another file, or unreadable) or cut (wrong bytes); its owner, the index, closes it after the last reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import BinaryIO, Literal

from omaha_mirror.aio.workers import Hangs
from omaha_mirror.cache.errors import CacheError, GenerationEnded, Lost
from omaha_mirror.cache.reader import Reader
from omaha_mirror.cache.store import Place, file_facts, identity


class ProvenBlob:
    """A proven blob: all of it may be sent at once, as long as its file is unchanged.

    Args:
        file: opened for reading.
        on_last: called when the last reader has left.
        on_hang: called when the disk does not answer.
        on_lost: called once when the file is another than before (""), or with why it cannot be read.
    """

    def __init__(
        self,
        file: BinaryIO,
        on_last: Callable[[], object] = lambda: None,
        on_lost: Callable[[str], object] | None = None,
        on_hang: Callable[[Hangs], object] | None = None,
    ) -> None:
        self.file = file
        self.identity = identity(file)
        self.size = self.identity.size
        self._on_last = on_last
        self._on_lost = on_lost
        self._on_hang = on_hang
        self._readers: dict[Reader, int] = {}
        self._wrong = ""
        self._is_lost = False

    def state(self) -> Literal["same", "changed", "unnamed"]:
        """Whether the file is unchanged since it was opened, and has a name; without one it only serves the readers that it has."""
        found, names = file_facts(self.file.fileno())
        if not names and not self._readers:
            return "unnamed"
        return "same" if found == self.identity else "changed"

    @property
    def is_read(self) -> bool:
        """Whether it has readers."""
        return bool(self._readers)

    def attach(self, reader: Reader) -> None:
        """Count a reader in, at its offset. The index has just looked at the file with `state`."""
        self._readers[reader] = reader.offset

    def detach(self, reader: Reader) -> None:
        """Count a reader out."""
        if reader in self._readers:
            del self._readers[reader]
            if not self._readers:
                self._on_last()

    def edge(self, reader: Reader) -> int:
        """The end of the blob; the reader's own offset where the bytes are wrong, or the file is another one by now."""
        is_first = self._readers[reader] == reader.offset
        if not is_first and not self._is_lost and identity(self.file) != self.identity:
            self.lose("")
        if self._wrong or self._is_lost:
            return reader.offset
        return max(reader.offset, self.size)

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie."""
        return Place(self.file, offset, self.size - offset)

    async def before_send(self, start: int, stop: int) -> None:
        """See `Readable`: it is proven."""

    def sent(self) -> None:
        """See `Readable`: it is proven."""

    async def wait(self, reader: Reader) -> int:
        """Raise why there is no such byte: it is wrong, lost, or after the end."""
        if self._wrong:
            raise GenerationEnded(self._wrong)
        if self._is_lost:
            raise Lost("the file is another one by now, or cannot be read")
        raise CacheError(f"byte {reader.offset} was asked for, the blob has {self.size}")

    def lose(self, reason: str) -> None:
        """Send nothing any more; what was sent was right. See `on_lost`."""
        if not self._is_lost:
            self._is_lost = True
            if self._on_lost is not None:
                self._on_lost(reason)

    def hangs(self, error: Hangs, _reader: Reader) -> bool:
        """See `Readable.hangs`. Raises Hangs where nothing else can be read."""
        if self._on_hang is None:
            raise error
        self._on_hang(error)
        self.lose("")
        return True

    def unreadable(self, reason: str) -> None:
        """See `Readable.unreadable`. Raises CacheError where there are no other bytes."""
        if self._on_lost is None:
            raise CacheError(reason)
        self.lose(reason)

    def cut(self, reason: str) -> None:
        """Send nothing any more, and end the readers: the bytes are wrong."""
        self._wrong = reason
        for reader in list(self._readers):
            reader.cut()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Opening:
    """A blob whose file is being opened. Its readers look it up again when it is open, or cannot be opened.

    Args:
        work: opens it; raises nothing.
        let_go: called when that has ended and no reader waits for it any more.
    """

    def __init__(self, work: Awaitable[None], let_go: Callable[[], object]) -> None:
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(self._look))
        self._let_go = let_go
        self._readers: set[Reader] = set()

    def attach(self, reader: Reader) -> None:
        """Count a reader in."""
        self._readers.add(reader)

    def detach(self, reader: Reader) -> None:
        """Count a reader out."""
        self._readers.discard(reader)
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if self._task.done() and not self._readers:
            self._let_go()

    def edge(self, reader: Reader) -> int:
        """No byte may be sent yet."""
        return reader.offset

    def place(self, offset: int) -> Place:
        """See `Readable`: no byte is there yet."""
        raise CacheError(f"byte {offset} is not there yet")

    async def before_send(self, start: int, stop: int) -> None:
        """See `Readable`: no byte is sent."""

    def sent(self) -> None:
        """See `Readable`: no byte is sent."""

    async def wait(self, _reader: Reader) -> int:
        """Wait until it is open, or cannot be opened. Raises Lost: its reader looks the blob up again."""
        await asyncio.wait([self._task])
        raise Lost("it is open, or cannot be opened")

    def hangs(self, error: Hangs, _reader: Reader) -> bool:
        """See `Readable`: no byte is read from it."""
        raise error

    def unreadable(self, reason: str) -> None:
        """See `Readable`: no byte is read from it."""
        raise CacheError(reason)
