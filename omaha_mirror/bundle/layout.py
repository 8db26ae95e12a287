"""Where each byte of a bundle lies. A bundle is a plain tar, and each has exactly one form.

    bundle.json                     its description
    bundle.json.sha256              a sidecar, as `sha256sum` writes them
    BOARD/RELEASE/NAME              a package
    BOARD/RELEASE/NAME.sha256       its sidecar, and so on

No times, no owners, no folders: the same releases give the same bytes, and who reads one knows every byte beforehand
but those of the description and of the packages, for which there are digests. So there is nothing to interpret in it:
no path, no link, no device, no sparse file.
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
    """What stands before a file of `size` bytes."""
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def padding(size: int) -> bytes:
    """What stands after a file of `size` bytes."""
    return bytes(-size % BLOCK)


def opening(text: bytes) -> bytes:
    """All that stands before the first package of the bundle with this description."""
    return _small(DESCRIPTION, text) + _sidecar(DESCRIPTION, hashlib.sha256(text).hexdigest())


def after(member: Member) -> bytes:
    """What stands after the bytes of a package."""
    return padding(member.size) + _sidecar(member.path, member.sha256.hex)


def parts(text: bytes, bundle: Bundle) -> Iterator[bytes | Member]:
    """A whole bundle: bytes, and packages in between."""
    yield opening(text)
    for member in bundle.members:
        yield header(member.path, member.size)
        yield member
        yield after(member)
    yield END


def size_of(text: bytes, bundle: Bundle) -> int:
    """Of a whole bundle, in bytes."""
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
