"""Bytes of a file to a connection, by Linux: from the page cache to the socket, without a copy in this process.

A port: a network that is not the kernel's puts its own two functions here. The event loop has the third, `loop.sendfile`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from typing import BinaryIO


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
