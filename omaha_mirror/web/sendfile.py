"""Bytes of a file to a connection, by Linux: from the page cache to the socket, without a copy in this process.

A port: a network that is not the kernel's puts its own functions here.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO
from weakref import WeakKeyDictionary

SO_MEMINFO, MEMINFO = 55, struct.Struct("6I")
"""The option and its numbers, SK_MEMINFO_SNDBUF and SK_MEMINFO_WMEM_QUEUED being the fourth and the sixth (linux/sock_diag.h)."""
AT_ONCE = 8
"""Connections that are served before the event loop does something else."""


def send_now(connection: socket.socket, file: BinaryIO, offset: int, count: int) -> int:
    """Send at most `count` bytes from `offset` on, as many as the connection takes now; how many.

    Raises:
        BlockingIOError: it takes none now.
        OSError: the connection has ended, or the file cannot be sent so.
    """
    return os.sendfile(connection.fileno(), file.fileno(), offset, count)


def on_its_way(connection: socket.socket) -> int:
    """Bytes that were sent and that the other side has not acknowledged yet."""
    [count] = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    return int(count)


def room(connection: socket.socket) -> int:
    """Bytes that the connection takes now, half of what the kernel has: it counts its own for what it holds, too."""
    try:
        info = connection.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
        _, _, _, most, _, queued = MEMINFO.unpack(info)
    except (OSError, struct.error):
        return 0
    return int(most - queued) // 2


@contextmanager
def whenever_writable(connection: socket.socket, call: Callable[[], object]) -> Iterator[None]:
    """Within it `call` is called again and again, as often as the connection takes more or has ended."""
    loop = asyncio.get_running_loop()
    if (writable := _of_loop.get(loop)) is None:
        writable = _of_loop[loop] = _Writable()
        loop.add_reader(writable.epoll, writable.serve)
    number = connection.fileno()
    writable.add(number, call)
    try:
        yield
    finally:
        writable.remove(number, call)


class _Writable:
    """The connections that more is sent to as soon as they take it.

    An epoll of their own, within that of the loop: asyncio lets nobody else wait for the socket of a transport. A socket
    may be closed by its transport while it is here: the kernel then forgets it, and another may get its number.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self._calls: dict[int, Callable[[], object]] = {}

    def add(self, number: int, call: Callable[[], object]) -> None:
        if number < 0:
            raise ConnectionResetError("the connection is closed")
        self.epoll.register(number, select.EPOLLOUT)
        self._calls[number] = call

    def remove(self, number: int, call: Callable[[], object]) -> None:
        if self._calls.get(number) is call:
            del self._calls[number]
            with suppress(OSError):
                self.epoll.unregister(number)

    def serve(self) -> None:
        for number, _ in self.epoll.poll(0, AT_ONCE):
            self._calls[number]()


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Writable] = WeakKeyDictionary()
