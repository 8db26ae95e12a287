"""Reading a bundle from front to back: each byte is compared with what it must be, or goes into a digest."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import WORK
from omaha_mirror.bundle.layout import BLOCK, DESCRIPTION, END, after, header, opening
from omaha_mirror.bundle.model import LIMIT, BadBundle, Bundle, Member, read_bundle

STEP = 1024 * 1024
SIZE = slice(124, 136)
"""Where a tar header has the size, in octal (POSIX.1-1988, ustar)."""


class BundleReader:
    """Call `open`, `member` for each member in order to its end, and `end`.

    Args:
        chunks: the bytes of the bundle, however they come.

    Attributes:
        position: how many bytes were read, all of them right.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.position = 0
        self._chunks = chunks
        self._ahead = bytearray()

    async def open(self) -> tuple[bytes, Bundle]:
        """The description, as it stands there and read. Raises BadBundle, and what the chunks raise."""
        first = await self._exactly(BLOCK)
        try:
            size = int(first[SIZE].rstrip(b"\0 "), 8)
        except ValueError:
            size = -1
        if not 0 < size <= LIMIT or first != header(DESCRIPTION, size):
            raise BadBundle("this is no bundle: `omaha-mirror export` writes them")
        text = await self._exactly(size)
        rest = await WORK.call(lambda: opening(text)[BLOCK + size :])
        await self._compare(rest, f"the description {DESCRIPTION}")
        return text, await WORK.call(read_bundle, text)

    async def member(self, member: Member) -> AsyncGenerator[bytes]:
        """The bytes of the next package, in pieces of at most 1 MiB. Raises BadBundle, and what the chunks raise."""
        await self._compare(header(member.path, member.size), f"what stands before {member.path}")
        digest, left = hashlib.sha256(), member.size
        while left > 0:
            chunk = await self._some(min(STEP, left))
            await in_worker(digest.update, chunk)
            left -= len(chunk)
            yield chunk
        if digest.digest() != member.sha256.raw:
            raise BadBundle(f"{member.path} is damaged: its SHA-256 is wrong")
        await self._compare(after(member), f"what stands after {member.path}")

    async def end(self) -> None:
        """Nothing may follow the last package. Raises BadBundle, and what the chunks raise."""
        await self._compare(END, "the end")
        if await anext(self._chunks, b"") or self._ahead:
            raise BadBundle("something follows where it should end: were other parts mixed in?")

    async def _compare(self, right: bytes, what: str) -> None:
        if await self._exactly(len(right)) != right:
            raise BadBundle(f"{what} is damaged, within {len(right)} bytes before {self.position}")

    async def _exactly(self, count: int) -> bytes:
        await self._fill(count)
        if len(self._ahead) < count:
            at = self.position + len(self._ahead)
            raise BadBundle(f"it ends too early, at byte {at}: is a part missing?")
        return self._taken(count)

    async def _some(self, count: int) -> bytes:
        """`count` bytes, or as many as there are before the end."""
        await self._fill(count)
        return self._taken(min(count, len(self._ahead))) or await self._exactly(count)

    async def _fill(self, count: int) -> None:
        while len(self._ahead) < count:
            chunk = await anext(self._chunks, b"")
            if not chunk:
                return
            self._ahead += chunk

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        self.position += count
        return taken
