"""Reads files as streams of bytes in workers, and writes a stream as one file or several of one size."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

import aiofiles

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.state_file import sync, sync_folder

STEP = 1024 * 1024


async def read_file(path: Path, start: int = 0) -> AsyncGenerator[bytes]:
    """A file's bytes from an offset on; a symbolic link or anything but a file is refused. Raises OSError."""
    async with aiofiles.open(path, "rb", 0, opener=_open_file, executor=BLOBS) as file:
        await file.seek(start)
        while data := await file.read(STEP):
            yield data


def _open_file(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is not a file")
    return fd


async def read_descriptor(fd: int) -> AsyncGenerator[bytes]:
    """The bytes of a pipe or the like, to its end. Raises OSError."""
    async with aiofiles.open(fd, "rb", 0, closefd=False, executor=BLOBS) as file:
        while data := await file.read(STEP):
            yield data


async def read_files(paths: Iterable[Path]) -> AsyncGenerator[bytes]:
    """The bytes of files, one after the other; symbolic links to them are followed. Raises OSError."""
    for path in paths:
        async for data in read_file(Path(await in_worker(os.path.realpath, path))):
            yield data


def parts_of(path: Path) -> list[Path]:
    """The files that a bundle at `path` consists of: itself, or `path.000` and so on; none if there is no bundle."""
    if path.exists():
        return [path]
    found: list[Path] = []
    while (part := part_name(path, len(found))).exists():
        found.append(part)
    return found


def part_name(path: Path, number: int) -> Path:
    """The name of a part; names sort in the order of the parts."""
    return path.with_name(f"{path.name}.{number:03}")


class Parts:
    """Writes a file, or parts of `split` bytes, under temporary names until the last byte is written.

    Args:
        path: the file, or the beginning of the names of the parts.
        split: bytes of a part; None for one file.

    Attributes:
        is_whole: whether the file exists under its own name; nothing is written then.
        files: the file or parts that exist.
        position: the number of their bytes.

    Raises:
        OSError: the existing parts cannot be continued.
    """

    def __init__(self, path: Path, split: int | None) -> None:
        self._path = path
        self._split = split
        self._aside = path.with_name(f"{path.name}.partial")
        self.is_whole = bool(parts_of(path))
        name = path if self.is_whole else self._aside
        self.files = parts_of(name)
        sizes = [file.stat().st_size for file in self.files]
        self.position = sum(sizes)
        fits = sizes == [] or (self.files == [name]) == (split is None)
        if not fits or any(size != split for size in sizes[:-1]) or self._over(sizes):
            raise OSError(f"{self.files[0]} was begun in parts of another size: remove all of them")

    def _over(self, sizes: list[int]) -> bool:
        return self._split is not None and any(size > self._split for size in sizes)

    async def write(self, data: bytes) -> None:
        """Write the next bytes. Raises OSError."""
        while data:
            name, room = self._aside, len(data)
            if self._split is not None:
                number, used = divmod(self.position, self._split)
                name, room = part_name(self._aside, number), self._split - used
            if name not in self.files:
                self.files.append(name)
            async with aiofiles.open(name, "ab", 0, executor=BLOBS) as file:
                count = await file.write(data[:room])
            self.position += count
            data = data[count:]

    def settle(self) -> None:
        """Rename the files and sync them: the operator unplugs the stick next. Raises OSError."""
        for file in self.files:
            with file.open("rb") as opened:
                sync(opened.fileno())
        if not self.is_whole:
            named = [part_name(self._path, number) for number in range(len(self.files))]
            named = named if self._split is not None else [self._path]
            # The first part is renamed last: without it, the bundle does not exist.
            for file, name in reversed(list(zip(self.files, named, strict=True))):
                file.rename(name)
            self.files, self.is_whole = named, True
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the written files. Raises OSError."""
        for file in self.files:
            file.unlink()
