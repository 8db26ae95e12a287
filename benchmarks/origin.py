"""The release server: files over HTTP/1.1 by sendfile, at full speed or over a line that all share; it counts what it sends."""

import hashlib
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.cache.payloads import signed

HOST = "127.0.0.1"
MB = 1_000_000
OPERATION = 1_000_000
"""Bytes of one operation of a payload, as in releases."""
PIECE = 64 * 1024
CREDIT = 0.05
"""Seconds of lateness that the line makes up for, as a full buffer before a real one does."""


class Line:
    """So many bytes a second for all connections together; None: as fast as they are taken."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Return when `size` bytes have passed."""
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - CREDIT) + size / self.rate
        time.sleep(max(0.0, self._free_at - now))


@dataclass(slots=True)
class Sent:
    """One request for a file, and the bytes of its body that were sent."""

    path: str
    count: int = 0


class Origin:
    """A thread for each connection. A context manager.

    Attributes:
        line: what all bytes go through.
        sent: what was asked for with GET.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.line = Line()
        self.sent: list[Sent] = []
        self._listener = socket.create_server((HOST, 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def publish(self, path: str, body: bytes) -> str:
        """Put up a file with its `.sha256`; gives its path back."""
        file = self.folder / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        file.with_name(f"{file.name}.sha256").write_text(
            f"{hashlib.sha256(body).hexdigest()}  {file.name}\n"
        )
        return path

    def payload(self, path: str, size: int) -> str:
        """Put up a signed payload of about `size` bytes, unlike any other."""
        operations = [os.urandom(min(OPERATION, size - at)) for at in range(0, size, OPERATION)]
        return self.publish(path, signed(operations))

    def size(self, path: str) -> int:
        """Of a file, in bytes."""
        return (self.folder / path[1:]).stat().st_size

    def requests(self, path: str) -> int:
        """How often a file was asked for."""
        return sum(sent.path == path for sent in self.sent)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        try:
            with sock:
                while part := sock.recv(16384):
                    data += part
                    while b"\r\n\r\n" in data:
                        head, _, data = data.partition(b"\r\n\r\n")
                        self._answer(sock, head.decode("latin-1"))
                        if "\nconnection: close" in head.decode("latin-1").lower():
                            return
        except ConnectionError:
            pass

    def _answer(self, sock: socket.socket, head: str) -> None:
        method, path, _ = head.split(" ", 2)
        file = self.folder / path[1:]
        if not file.is_file():
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            start, stop, status = 0, size, "200 OK"
            fields = [f'ETag: "{file.stat().st_ino:x}"', "Accept-Ranges: bytes"]
            if found := re.search(r"(?im)^range: *bytes=(\d+)-(\d*)", head):
                start = int(found[1])
                stop = min(size, int(found[2]) + 1) if found[2] else size
                status = "206 Partial Content"
                fields.append(f"Content-Range: bytes {start}-{stop - 1}/{size}")
            fields.append(f"Content-Length: {stop - start}")
            answer = "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""])
            sock.sendall(answer.encode())
            if method == "GET":
                sent = Sent(path)
                self.sent.append(sent)
                self._send(sock, opened.fileno(), start, stop, sent)

    def _send(self, sock: socket.socket, fd: int, start: int, stop: int, sent: Sent) -> None:
        while start < stop:
            most = stop - start if self.line.rate is None else min(PIECE, stop - start)
            self.line.take(most)
            count = os.sendfile(sock.fileno(), fd, start, most)
            start += count
            sent.count += count
