"""Reading from a file of any size, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Callable

Span = tuple[int, int]
"""Bytes [start, stop) of a file."""
Read = Callable[[int, int], bytes]
"""Gives up to `count` bytes at `offset`, as os.pread does; raises OSError."""


def exactly(read: Read, offset: int, count: int) -> bytes:
    """Gives `count` bytes at `offset`. Raises OSError, also where the file has fewer."""
    data = bytearray()
    while len(data) < count:
        more = read(offset + len(data), count - len(data))
        if not more:
            raise OSError(f"the file ends at byte {offset + len(data)}, before {offset + count}")
        data += more
    return bytes(data)
