"""Standard error, written so that no caller waits or fails when it is full or closed, or when nobody reads it.

The descriptor stays blocking, as other processes may share it: a thread of its own waits where it must. What it cannot
write is dropped and counted.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal, get_args

DESCRIPTOR = 2
MOST = 1024 * 1024
"""Bytes that wait to be written; what comes beyond them is dropped."""
MANY = 64 * 1024
"""Bytes that are written at once where more wait."""
LINGER = 0.02
"""Seconds in which lines gather, so that the thread seldom takes its turn from the others."""
STALL = 1.0
"""Seconds after which a write that does not end is trouble."""
RETRY = 1.0
"""Seconds between two attempts where writing failed."""
LAST_WORDS = 1.0
"""Seconds that the end of the process waits for what is still to be written."""

Loss = Literal["queue-full", "write-failed"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


class LineWriter:
    """Writes lines to a descriptor: at once in the caller's thread, or, once begun, in a thread of its own.

    Args:
        descriptor: to write to.
        most: bytes that may wait.

    Attributes:
        dropped: lines that could not be written, by why.
        notice: gives the line that tells of so many lost ones, when writing goes again.
    """

    def __init__(self, descriptor: int = DESCRIPTOR, most: int = MOST) -> None:
        self.descriptor = descriptor
        self.dropped: dict[str, int] = dict.fromkeys(LOSSES, 0)
        self.notice: Callable[[int], str] = "{} lines were lost\n".format
        self._most = most
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._held: bytes | None = None
        self._queued = 0
        self._lock = threading.RLock()  # a finalizer may log while this thread is in here
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._why = ""
        self._untold = 0
        self._torn = False

    def begin(self) -> None:
        """Write in a thread from now on; the end of the process waits a moment for it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="standard-error", daemon=True)
            self._thread.start()
            atexit.register(self.flush)

    def put(self, text: str) -> None:
        """Write a text, or drop it where too much waits. Never raises, and once begun never waits."""
        data = text.encode("utf-8", "backslashreplace")
        if self._thread is None:
            self._write(data)
            return
        with self._lock:
            if self._queued + len(data) <= self._most:
                self._queued += len(data)
            else:
                first = not self._untold
                self._lose(data, "queue-full")
                if not first:
                    return
                data = b""  # wakes the thread, which has to tell of it
        self._lines.put(data)

    def flush(self, patience: float = LAST_WORDS) -> None:
        """Wait until all is written or dropped, or so many seconds have passed."""
        deadline = time.monotonic() + patience
        while self._queued and time.monotonic() < deadline:
            time.sleep(LINGER / 4)

    def trouble(self) -> str:
        """What is wrong now, in words; empty where nothing is."""
        since = self._since
        if since is not None and (age := time.monotonic() - since) >= STALL:
            return f"nobody has read standard error for {age:.0f} s"
        if self._why:
            return f"standard error cannot be written to: {self._why}"
        return "lines came faster than standard error takes them" if self._untold else ""

    def _run(self) -> None:
        while True:
            batch = self._batch()
            if self._tell_losses():
                self._write(batch)
            else:
                with self._lock:
                    self._lose(batch, "write-failed")
            with self._lock:
                self._queued -= len(batch)
            if self._held is None and self._lines.empty():
                time.sleep(LINGER)

    def _batch(self) -> bytes:
        """The next lines: as many as a pipe takes in one piece, or one that is longer; none when it is time to retry.

        Where many wait it is more of them, as each write costs the other threads a turn.
        """
        most = select.PIPE_BUF if self._queued <= MANY else MANY
        lines: list[bytes] = []
        size = 0
        try:
            line = self._held or self._lines.get(timeout=RETRY if self._untold else None)
            self._held = None
            while not lines or size + len(line) <= most:
                lines.append(line)
                size += len(line)
                line = self._lines.get_nowait()
            self._held = line
        except Empty:
            pass
        return b"".join(lines)

    def _tell_losses(self) -> bool:
        """Tell of lines that were lost, if any; gives whether writing goes."""
        told = self._untold
        if told and not self._write(self.notice(told).encode(), count=False):
            return False
        with self._lock:
            self._untold -= told
        return True

    def _write(self, data: bytes, *, count: bool = True) -> bool:
        """Write it; where that fails what is left of it is lost. Gives whether all was written."""
        mend = b"\n" if self._torn else b""
        whole = memoryview(mend + data)
        written = 0
        self._since = time.monotonic()
        try:
            while written < len(whole):
                written += self._write_some(whole[written:])
            self._why, self._torn = "", False
        except OSError as error:
            self._why = error.strerror or str(error)
            if written:
                self._torn = whole[written - 1] != ord("\n")
            if count:
                with self._lock:
                    self._lose(bytes(whole[max(written, len(mend)) :]), "write-failed")
            return False
        finally:
            self._since = None
        return True

    def _write_some(self, data: memoryview) -> int:
        """Gives how much of it was written. Raises OSError."""
        try:
            written = os.write(self.descriptor, data)
        except BlockingIOError:  # somebody who shares it wants it so
            select.select([], [self.descriptor], [], STALL)
            return 0
        self._since = time.monotonic()
        return written

    def _lose(self, data: bytes, why: Loss) -> None:
        lines = data.count(b"\n")
        self.dropped[why] += lines
        self._untold += lines


class Stream(io.TextIOBase):
    """Takes the place of `sys.stderr`: all that is printed there goes through the writer.

    Args:
        writer: gets it.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        """Write a text; never raises OSError."""
        if not isinstance(text, str):
            raise TypeError("standard error takes text")
        self._writer.put(text)
        return len(text)

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._writer.descriptor)

    def fileno(self) -> int:
        """The descriptor."""
        return self._writer.descriptor


WRITER = LineWriter()
"""Log lines and what is printed to standard error go through it, in order."""


def take_over() -> None:
    """Let the writer have what is printed to standard error, and no other file a standard descriptor that is closed.

    Else a line of the log lands in a package. Where standard error was closed, lines count as lost: they are written to
    what can only be read.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (DESCRIPTOR, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stderr = Stream(WRITER)


def is_taken_over() -> bool:
    """Whether `take_over` was called in this process."""
    return isinstance(sys.stderr, Stream)
