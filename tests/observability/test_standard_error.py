"""Lines on their way out: whole and in order where they can be written, counted where they cannot."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from omaha_mirror.observability.standard_error import LineWriter, Stream
from tests.support.talk import PATIENCE


class Reader:
    """The other end of a pipe; reads when it is told to."""

    def __init__(self) -> None:
        self.end, self.writing = os.pipe()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.end, self.writing):
            with suppress(OSError):
                os.close(end)

    def until(self, words: bytes) -> bytes:
        read = b""
        while words not in read:
            read += os.read(self.end, 1 << 16)
        return read

    def stuff(self) -> int:
        """Fill the pipe; how much went in."""
        count = 0
        os.set_blocking(self.writing, False)
        with suppress(BlockingIOError):
            while True:
                count += os.write(self.writing, b".")
        return count


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader


def begun(descriptor: int, most: int = 1 << 20) -> LineWriter:
    writer = LineWriter(descriptor, most)
    writer.begin()
    return writer


def wait_for(writer: LineWriter, *, trouble: bool) -> str:
    """Until there is trouble, or none: its words."""
    deadline = time.monotonic() + PATIENCE
    while bool(words := writer.trouble()) != trouble:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return words


def test_lines_of_many_threads_come_whole_and_those_of_each_in_order(reader: Reader) -> None:
    writer = begun(reader.writing)
    told = [[f"{name} {number} {'x' * 300}\n" for number in range(300)] for name in range(4)]
    threads = [threading.Thread(target=lambda ls=ls: [*map(writer.put, ls)]) for ls in told]
    for thread in threads:
        thread.start()
    read: list[str] = []
    while len(read) < 1200 or not read[-1].endswith("\n"):
        piece = os.read(reader.end, 4096).decode()
        read[-1:] = ("".join(read[-1:]) + piece).splitlines(keepends=True)
    for thread in threads:
        thread.join()
    for name, lines in enumerate(told):
        assert [line for line in read if line.startswith(f"{name} ")] == lines
    assert writer.dropped == {"queue-full": 0, "write-failed": 0}


def test_a_line_that_is_longer_than_a_pipe_takes_at_once_comes_whole(reader: Reader) -> None:
    writer = begun(reader.writing)
    long = "y" * 200_000 + "\n"
    writer.put("a\n")
    writer.put(long)
    writer.put("b\n")
    assert reader.until(b"b\n") == f"a\n{long}b\n".encode()


def test_what_does_not_fit_is_lost_and_told_when_there_is_room(reader: Reader) -> None:
    reader.stuff()
    os.set_blocking(reader.writing, True)
    writer = begun(reader.writing, most=100)
    for _ in range(30):
        writer.put("0123456789\n")  # nine fit
    assert writer.dropped == {"queue-full": 21, "write-failed": 0}
    assert wait_for(writer, trouble=True)
    read = reader.until(b"21 lines were lost\n")
    assert read.count(b"0123456789\n") <= 9
    assert wait_for(writer, trouble=False) == ""


def test_a_text_larger_than_all_there_is_room_for_is_told_of_as_lost(reader: Reader) -> None:
    writer = begun(reader.writing, most=10)
    writer.put("0123456789\n")
    assert reader.until(b"\n") == b"1 lines were lost\n"
    assert wait_for(writer, trouble=False) == ""


def test_a_descriptor_that_somebody_else_made_nonblocking_is_waited_for(reader: Reader) -> None:
    full = reader.stuff()
    writer = begun(reader.writing)
    writer.put("late\n")
    wait_for(writer, trouble=True)
    assert reader.until(b"late\n") == b"." * full + b"late\n"
    assert wait_for(writer, trouble=False) == ""
    assert writer.dropped == {"queue-full": 0, "write-failed": 0}


def test_a_line_that_was_torn_by_a_full_disk_does_not_swallow_the_next(tmp_path: Path) -> None:
    class Disk(LineWriter):
        room = 3

        def _write_some(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            written = os.write(self.descriptor, data[: self.room])
            self.room -= written
            return written

    with (tmp_path / "log").open("wb", buffering=0) as file:
        writer = Disk(file.fileno())
        writer.put("abcdef\n")
        writer.put("lost\n")
        assert writer.dropped["write-failed"] == 2
        assert writer.trouble() == "standard error cannot be written to: No space left on device"
        writer.room = 1000
        writer.put("whole\n")
    assert (tmp_path / "log").read_bytes() == b"abc\nwhole\n"


def test_the_end_waits_for_lines_and_not_for_ever(reader: Reader) -> None:
    writer = begun(reader.writing)
    writer.put("last words\n")
    writer.flush(PATIENCE)
    assert os.read(reader.end, 100) == b"last words\n"
    reader.stuff()
    os.set_blocking(reader.writing, True)
    writer.put("never read\n")
    writer.flush(0.01)
    reader.until(b"never read\n")


def test_what_is_printed_takes_the_same_way(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(LineWriter(reader.writing)))
    sys.stderr.write("so \ud800\n")
    assert os.read(reader.end, 100) == b"so \\ud800\n"
    assert not sys.stderr.isatty()
    with pytest.raises(TypeError):
        sys.stderr.write(b"bytes")  # type: ignore[arg-type]
