"""Standard errors that take nothing, for processes."""

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

from tests.support.talk import PATIENCE

Broken = Literal["full", "closed", "unread", "gone"]
"""On a full disk; not open; a pipe that nobody reads; a pipe whose reader has left."""


class Pipe:
    """A pipe, of which a process has one end and a test the other.

    Args:
        stack: closes what is still open.
    """

    def __init__(self, stack: ExitStack) -> None:
        self.ours, self.theirs = os.pipe()
        self._open = {self.ours, self.theirs}
        stack.callback(self.close)

    def close(self, *ends: int) -> None:
        """Close these ends, or those that are still open."""
        for end in ends or tuple(self._open):
            os.close(end)
            self._open.discard(end)

    def fill(self) -> None:
        """Put in what goes in."""
        os.set_blocking(self.theirs, False)
        with suppress(BlockingIOError):
            while os.write(self.theirs, b"." * 4096):
                pass
        os.set_blocking(self.theirs, True)

    async def until(self, holds: Callable[[bytes], bool]) -> bytes:
        """Read until something holds of all that was read."""
        read = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while not holds(read):
                read += await loop.run_in_executor(None, os.read, self.ours, 1 << 16)
        return read


def broken(kind: Broken, stack: ExitStack) -> int | None:
    """A descriptor for a process' standard error; None: it gets none."""
    if kind == "closed":
        return None
    if kind == "full":
        return stack.enter_context(Path("/dev/full").open("w")).fileno()
    pipe = Pipe(stack)
    if kind == "unread":
        pipe.fill()
    else:
        pipe.close(pipe.ours)
    return pipe.theirs
