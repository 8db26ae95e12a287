"""A model of what a power cut may leave of a directory.

What a file held when it was last synced, and which names a folder had when it was last synced, is safe. Of what came
after, anything may be there: the bytes not at all, all, or torn; the names as of any moment since. Each file and each
folder has its own fate.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Names = Mapping[str, int]
Fate = tuple[tuple[str, bytes | None], ...]
"""Paths below the directory, in order, with what they hold; None for a folder."""


class Disk:
    """Watches a directory, and tells in what states a power cut at any moment so far could have left it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fates: set[Fate] = set()
        self.last: set[Fate] = set()
        self._names: dict[int, list[Names]] = {}
        self._bytes: dict[int, list[bytes]] = {}
        self._pins: list[int] = []
        self._root = directory.stat().st_ino
        self._look(directory)
        for folder in self._names:  # what was there before is safe
            del self._names[folder][:-1]

    def close(self) -> None:
        for fd in self._pins:
            os.close(fd)

    def _look(self, folder: Path) -> None:
        """Note what has changed."""
        names: dict[str, int] = {}
        for path in sorted(folder.iterdir()):
            names[path.name] = number = path.stat().st_ino
            if path.is_dir():
                self._look(path)
                continue
            if number not in self._bytes:
                self._pins.append(os.open(path, os.O_RDONLY))  # its number is not given again
            _note(self._bytes.setdefault(number, [b""]), path.read_bytes())
        _note(self._names.setdefault(folder.stat().st_ino, [{}]), names)

    def moment(self) -> None:
        """The power could fail now."""
        self._look(self.directory)
        self.last = set(self._possible())
        self.fates |= self.last

    def synced(self, fd: int) -> None:
        """A file or a folder is safe as it is now."""
        self._look(self.directory)
        number = os.fstat(fd).st_ino
        for versions in (self._names.get(number), self._bytes.get(number)):
            if versions is not None:
                del versions[:-1]

    def _possible(self) -> Iterator[Fate]:
        folders, files = list(self._names), list(self._bytes)
        names = itertools.product(*(self._names[number] for number in folders))
        contents = list(itertools.product(*(_torn(self._bytes[number]) for number in files)))
        for chosen in names:
            tree = dict(zip(folders, chosen, strict=True))
            for held in contents:
                yield tuple(self._tree(self._root, "", tree, dict(zip(files, held, strict=True))))

    def _tree(
        self, folder: int, prefix: str, tree: Mapping[int, Names], held: Mapping[int, bytes]
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, number in tree[folder].items():
            yield prefix + name, held.get(number)
            if number in tree:
                yield from self._tree(number, f"{prefix}{name}/", tree, held)


def _note(versions: list[Any], now: object) -> None:
    if versions[-1] != now:
        versions.append(now)


def _torn(versions: list[bytes]) -> set[bytes]:
    """What a file may hold whose versions since the last sync are these: old, new, half-written, half and short."""
    old, new = versions[0], versions[-1]
    blank = old.ljust(len(new), b"\0")
    first = next(
        (i for i, pair in enumerate(zip(blank, new, strict=False)) if len(set(pair)) > 1), len(new)
    )
    middle = (first + len(new)) // 2
    return {old, new, blank, new[:middle] + blank[middle:], new[: max(middle, len(old))]}


def watch(disk: Disk, patch: pytest.MonkeyPatch) -> None:
    """Have each call that changes what is on disk be a moment for the power to fail, before and after it."""

    def watched(function: Callable[..., Any], *, syncs: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            disk.moment()
            result = function(*args, **kwargs)
            if syncs:
                disk.synced(args[0])
            disk.moment()
            return result

        return call

    for place, name in (
        (os, "pwrite"),
        (os, "pwritev"),
        (os, "ftruncate"),
        (Path, "rename"),
        (Path, "unlink"),
        (Path, "mkdir"),
        (Path, "touch"),
    ):
        patch.setattr(place, name, watched(getattr(place, name)))
    for name in ("fsync", "fdatasync"):
        patch.setattr(os, name, watched(getattr(os, name), syncs=True))


def lay_out(fate: Fate, directory: Path) -> None:
    """Make a directory what a power cut left."""
    directory.mkdir()
    for path, held in fate:
        if held is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(held)
