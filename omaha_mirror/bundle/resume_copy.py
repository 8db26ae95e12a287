"""Bringing a bundle to its end, from wherever it was broken off, with every byte checked on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from omaha_mirror.bundle.layout import size_of
from omaha_mirror.bundle.model import BadBundle, Bundle
from omaha_mirror.bundle.reader import BundleReader


@dataclass(frozen=True, slots=True)
class Announced:
    """What a bundle will be: its size in bytes, and the SHA-256 of its description in hexadecimal."""

    size: int
    sha256: str

    @staticmethod
    def of(bundle: Bundle) -> Announced:
        """What it will be."""
        text = bundle.dump()
        return Announced(size_of(text, bundle), hashlib.sha256(text).hexdigest())


async def resume_copy(
    announced: Announced,
    begun: AsyncIterator[bytes],
    more: Callable[[int], AsyncGenerator[bytes]],
    write: Callable[[bytes], Awaitable[object]],
) -> None:
    """Write the rest of a bundle behind what is there of it.

    Args:
        announced: the bundle that it must become.
        begun: the bytes that are there already.
        more: gives the bundle's bytes from an offset on.
        write: takes them.

    Raises:
        BadBundle: what is there is no part of it, or what came is damaged.
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
            raise BadBundle("what is there already belongs to another bundle")
        for member in bundle.members:
            async for _ in reader.member(member):
                pass
        await reader.end()
