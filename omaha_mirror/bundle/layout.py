"""The position of each byte of a bundle. A bundle is a plain tar with exactly one form.

    bundle.json                     its description
    bundle.json.sha256              its sidecar, as `sha256sum` writes it
    BOARD/RELEASE/NAME              a package
    BOARD/RELEASE/NAME.sha256       the sidecar of the package, and so on

No times, no owners, no folders: the same releases give the same bytes. A reader knows every byte beforehand, except those
of the description and of the packages, which have digests. So it interprets nothing: no path, no link, no device, no
sparse file.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import WORK
from omaha_mirror.bundle.model import LIMIT, BadBundle, Bundle, Member, read_bundle

DESCRIPTION = "bundle.json"
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)

ReadMember = Callable[[Member, int], AsyncGenerator[bytes]]
"""Gives the bytes of a package from an offset on."""


def header(path: str, size: int) -> bytes:
    """The tar header of a file of `size` bytes."""
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def padding(size: int) -> bytes:
    """The padding after a file of `size` bytes."""
    return bytes(-size % BLOCK)


def opening(text: bytes) -> bytes:
    """All bytes before the first package: the description and its sidecar."""
    return _small(DESCRIPTION, text) + _sidecar(DESCRIPTION, hashlib.sha256(text).hexdigest())


def after(member: Member) -> bytes:
    """All bytes between a package and the next header: padding and sidecar."""
    return padding(member.size) + _sidecar(member.path, member.sha256.hex)


def parts(text: bytes, bundle: Bundle) -> Iterator[bytes | Member]:
    """A whole bundle: bytes, and packages between them."""
    yield opening(text)
    for member in bundle.members:
        yield header(member.path, member.size)
        yield member
        yield after(member)
    yield END


def size_of(text: bytes, bundle: Bundle) -> int:
    """The size of a whole bundle in bytes."""
    return sum(_size(part) for part in parts(text, bundle))


async def compose(
    text: bytes, bundle: Bundle, read: ReadMember, offset: int = 0
) -> AsyncGenerator[bytes]:
    """The bytes of a bundle from an offset on. Raises what `read` raises."""
    for part in parts(text, bundle):
        if offset >= _size(part):
            offset -= _size(part)
            continue
        if isinstance(part, bytes):
            yield part[offset:]
        else:
            async with aclosing(read(part, offset)) as chunks:
                async for chunk in chunks:
                    yield chunk
        offset = 0


def _size(part: bytes | Member) -> int:
    return len(part) if isinstance(part, bytes) else part.size


def _small(path: str, data: bytes) -> bytes:
    return header(path, len(data)) + data + padding(len(data))


def _sidecar(path: str, digest: str) -> bytes:
    return _small(f"{path}.sha256", f"{digest}  {path.rpartition('/')[2]}\n".encode())


STEP = 1024 * 1024
SIZE = slice(124, 136)
"""The size in a tar header, in octal (POSIX.1-1988, ustar)."""


class BundleReader:
    """Call `open`, `member` for each member in order to its end, and `end`.

    Args:
        chunks: the bytes of the bundle, in pieces of any size.

    Attributes:
        position: the number of bytes that were read and verified.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.position = 0
        self._chunks = chunks
        self._ahead = bytearray()

    async def open(self) -> tuple[bytes, Bundle]:
        """The description, as bytes and parsed. Raises BadBundle, and what the chunks raise."""
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
        await self._compare(header(member.path, member.size), f"the header of {member.path}")
        digest, left = hashlib.sha256(), member.size
        while left > 0:
            chunk = await self._some(min(STEP, left))
            await in_worker(digest.update, chunk)
            left -= len(chunk)
            yield chunk
        if digest.digest() != member.sha256.raw:
            raise BadBundle(f"{member.path} is damaged: its SHA-256 is wrong")
        await self._compare(after(member), f"the sidecar of {member.path}")

    async def end(self) -> None:
        """Check that nothing follows the last package. Raises BadBundle, and what the chunks raise."""
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


@dataclass(frozen=True, slots=True)
class Announced:
    """The size of a bundle in bytes, and the SHA-256 of its description in hexadecimal."""

    size: int
    sha256: str

    @staticmethod
    def of(bundle: Bundle) -> Announced:
        """The size and digest of this bundle."""
        text = bundle.dump()
        return Announced(size_of(text, bundle), hashlib.sha256(text).hexdigest())


async def resume_copy(
    announced: Announced,
    begun: AsyncIterator[bytes],
    more: Callable[[int], AsyncGenerator[bytes]],
    write: Callable[[bytes], Awaitable[object]],
) -> None:
    """Write the missing rest of a bundle.

    Args:
        announced: the bundle to complete.
        begun: the bytes that an earlier copy wrote.
        more: gives the bundle's bytes from an offset on.
        write: writes them.

    Raises:
        BadBundle: `begun` is no part of this bundle, or the rest is damaged.
    """

    async def whole() -> AsyncGenerator[bytes]:
        count = 0
        async for chunk in begun:
            count += len(chunk)
            yield chunk
        if count < announced.size:
            async with aclosing(more(count)) as rest:
                async for chunk in rest:
                    await write(chunk)
                    yield chunk

    async with aclosing(whole()) as chunks:
        reader = BundleReader(chunks)
        text, bundle = await reader.open()
        if hashlib.sha256(text).hexdigest() != announced.sha256:
            raise BadBundle("the file belongs to another bundle")
        for member in bundle.members:
            async for _ in reader.member(member):
                pass
        await reader.end()
