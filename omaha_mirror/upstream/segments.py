"""Requests for upstream on disk, in segments: files of JSON lines.

`{"number": N, "request": "<?xml ..."}` is a request, and `{"done": N}` means that all up to this number are sent or
dropped. A segment is removed when this is true of all its requests. A killed process loses the requests of its last
250 ms, and sends again those that it sent in them. A power cut loses the writes that the kernel had not finished. A
damaged line loses only itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from omaha_mirror.state_file import make_folder, restore, restore_folder

SEGMENT = 256 * 1024
"""Bytes of a full segment: at most so much of sent requests stays on disk."""
LOG = structlog.get_logger(__name__)


class Entry(NamedTuple):
    """A request as its line on disk."""

    number: int
    line: bytes

    @property
    def request(self) -> bytes:
        """UTF-8."""
        text: str = json.loads(self.line)["request"]
        return text.encode()


class Segments:
    """The segments. All methods wait for the disk, and run in one thread.

    Attributes:
        newest: the greatest number that was ever on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.newest = 0
        self._folder = folder
        # The greatest number in each, oldest segment first.
        self._last: dict[Path, int] = {}
        self._names = 0
        self._room = 0
        self._done = 0

    def load(self, limit: int) -> list[Entry]:
        """The requests to send; a file with much more than `limit` bytes counts as damaged."""
        found: dict[int, Entry] = {}
        restore_folder(self._folder, "requests for upstream are lost")
        for path in sorted(self._folder.glob("*.jsonl")):
            if not path.stem.isdecimal():
                continue
            self._names = max(self._names, int(path.stem))
            lines = restore(path, limit + SEGMENT, _lines, "its requests are not sent")
            if lines is None:
                continue
            damaged = last = 0
            for line in lines:
                try:
                    number, done = _read(line)
                except (ValueError, LookupError, TypeError, RecursionError):
                    damaged += 1
                    continue
                last = max(last, number)
                if done:
                    self._done = max(self._done, number)
                else:
                    found[number] = Entry(number, line)
            if damaged:
                LOG.error("damaged lines are skipped", path=str(path), lines=damaged)
            self._last[path] = last
            self.newest = max(self.newest, last)
        return [found[number] for number in sorted(found) if number > self._done]

    def write(self, entries: list[Entry], done: int) -> None:
        """Append new requests, and remove segments up to the number `done`. Raises OSError; it can be repeated."""
        for path, last in list(self._last.items()):
            if last > done:
                break
            path.unlink(missing_ok=True)
            del self._last[path]
        if not self._last:
            self._room = 0
        for entry in entries:
            if entry.number > self.newest:
                self._append(entry.line, entry.number)
                self.newest = entry.number
        if self._last and done > self._done:
            self._append(line_of({"done": done}), done)
        self._done = max(self._done, done)

    def _append(self, line: bytes, number: int) -> None:
        if self._room <= 0:
            self._names += 1
            self._room = SEGMENT
            self._last[self._folder / f"{self._names:012d}.jsonl"] = 0
        path = next(reversed(self._last))
        make_folder(self._folder, 0o700)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(fd, line)
        finally:
            os.close(fd)
        self._last[path] = max(self._last[path], number)
        self._room -= len(line)


def _write_whole(fd: int, line: bytes) -> None:
    """Append a line completely or not at all."""
    size = os.fstat(fd).st_size
    left = memoryview(line)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
        raise


def _lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def line_of(record: dict[str, Any]) -> bytes:
    """A record as a line."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _read(line: bytes) -> tuple[int, bool]:
    """The number of a request, or True and the number up to which all are done."""
    record = json.loads(line)
    done = "done" in record
    number = record["done" if done else "number"]
    if not isinstance(number, int) or not 0 < number < 1 << 62:
        raise ValueError("not a number of a request")
    if not done and not isinstance(record["request"], str):
        raise TypeError("not a request")
    return number, done
