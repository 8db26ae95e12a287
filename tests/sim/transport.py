"""asyncio's transport over a connection of `tests.sim.tcp`; it does what that of a selector loop does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any

from tests.sim.sockets import SimSocket

MAX_SIZE = 256 * 1024
HIGH, LOW = 64 * 1024, 16 * 1024


class SimTransport(asyncio.Transport):
    """See above.

    Attributes:
        max_size: most bytes that a protocol is given at a time.
    """

    max_size = MAX_SIZE

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: SimSocket, protocol: Any) -> None:
        peer, local = sock.peer, sock.local
        super().__init__({"socket": sock, "peername": peer, "sockname": local})
        assert sock.end is not None
        self._loop, self._sock, self._end, self._protocol = loop, sock, sock.end, protocol
        self._context = copy_context()
        self._buffer = bytearray()
        self._high, self._low = HIGH, LOW
        self._closing = self._paused = self._eof = self._read_queued = False
        self._lost = self._stopped = self._eof_seen = False

    def begin(self) -> None:
        """Give it to its protocol."""
        self._protocol.connection_made(self)
        self._end.transport = self
        self.on_readable()

    def _later(self, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(callback, *args, context=self._context)

    # Reading

    def on_readable(self) -> None:
        """Something has arrived, or the connection is broken."""
        if not self._read_queued and not self._stopped:
            self._read_queued = True
            self._later(self._read)

    def _read(self) -> None:
        self._read_queued = False
        if self._lost or self._stopped:
            return
        end = self._end
        if end.error is not None:
            self._break(end.error)
        elif self._closing:
            return
        elif end.inbox:
            data = end.read(self.max_size)
            self._protocol.data_received(data)
            if end.inbox or end.eof:
                self.on_readable()
        elif end.eof and not self._eof_seen:
            self._eof_seen = True
            if not self._protocol.eof_received():
                self.close()

    def pause_reading(self) -> None:
        self._stopped = True

    def resume_reading(self) -> None:
        self._stopped = False
        if not self._closing:
            self.on_readable()

    def is_reading(self) -> bool:
        return not self._closing and not self._stopped

    # Writing

    def write(self, data: Any) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost or self._closing:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._end.put(bytes(data))
            except OSError as error:
                self._break(error)
                return
        self._buffer += bytes(data)[sent:]
        self._may_pause()

    def _may_pause(self) -> None:
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def on_space(self) -> None:
        """The kernel takes more, or the connection is broken."""
        if self._buffer:
            self._later(self._flush)

    def _flush(self) -> None:
        if self._lost:
            return
        try:
            del self._buffer[: self._end.put(bytes(self._buffer))]
        except OSError as error:
            self._break(error)
            return
        if self._paused and len(self._buffer) <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if not self._buffer:
            if self._closing:
                self._lose(None)
            elif self._eof:
                self._end.end_of_output()

    def write_eof(self) -> None:
        if not self._eof:
            self._eof = True
            if not self._buffer:
                self._end.end_of_output()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH if high is None else high
        self._low = self._high // 4 if low is None else low
        self._may_pause()

    # The end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._later(self._lose, None)

    def abort(self) -> None:
        self._break(None)

    def _break(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._buffer.clear()
        self._closing = True
        self._lost = True
        self._later(self._tell_lost, error)

    def _lose(self, error: OSError | None) -> None:
        if not self._lost:
            self._lost = True
            self._tell_lost(error)

    def _tell_lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
