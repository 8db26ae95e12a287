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
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

from omaha_mirror.bundle.model import Bundle, Member

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
