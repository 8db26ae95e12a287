"""A body of known length as it arrives from a socket, past aiohttp's parser, which would copy each byte and give few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import aiohttp

AT_ONCE = 1024 * 1024
"""Bytes that are taken from the kernel at a time, and that wait for their reader before no more are taken."""


class Received:
    """The bytes that have arrived and were not read yet.

    Args:
        transport: of the connection; reading pauses while enough waits.
        left: bytes that are still to come, at least 1.
        is_whole: called when the last one has come.

    Attributes:
        left: the same.
    """

    def __init__(
        self, transport: asyncio.Transport, left: int, is_whole: Callable[[], None]
    ) -> None:
        self._transport = transport
        self.left = left
        self._is_whole = is_whole
        self._pieces = deque[bytes]()
        self._waiting = 0
        self._error: BaseException | None = None
        self._woken: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection, at most as many as are to come."""
        self._pieces.append(data)
        self._waiting += len(data)
        self.left -= len(data)
        if not self.left:
            self._is_whole()
        elif self._waiting > AT_ONCE:
            self._transport.pause_reading()
        self._wake()

    def lost(self, error: BaseException | None) -> None:
        """The connection ended. What has arrived can still be read."""
        self._error = error or aiohttp.ClientPayloadError(f"{self.left} bytes are missing")
        self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def read_nowait(self) -> bytes:
        """The next bytes; none where none wait."""
        if not self._pieces:
            return b""
        if self._waiting > AT_ONCE and self.left:
            self._transport.resume_reading()
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        return piece

    async def readany(self) -> bytes:
        """The next bytes, as soon as there are any; none at the end.

        Raises:
            aiohttp.ClientPayloadError, OSError: the connection was lost.
        """
        while not self._pieces and self.left:
            if self._error is not None:
                raise self._error
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
        return self.read_nowait()
