"""Whether the mirror can do its work now, tested, with words for what is wrong and what to do.

What keeps it from serving makes it not ready; what only keeps it from learning (upstream is down) makes it degraded.
A disk that hangs is reported after `DEADLINE` seconds; it delays no other request.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from omaha_mirror.aio.workers import Workers
from omaha_mirror.state_file import NOT_SYNCED, sync, sync_folder

LOG = structlog.get_logger(__name__)
DEADLINE = 5.0
"""Seconds that a disk gets to answer."""
FRESH = 1.0
"""Seconds for which the result of an examination is used again."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a disk that is full and can still be read."""
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
"""Errors of this process, not of the disk."""


class State(StrEnum):
    """From best to worst."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `words` say what is wrong and what to do, or that all is right."""

    name: str
    state: State
    words: str


@dataclass(frozen=True, slots=True)
class Health:
    """All findings. The mirror is ready unless one of them failed."""

    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """The worst state of the findings."""
        order = list(State)
        return max((f.state for f in self.findings), key=order.index, default=State.OK)

    @property
    def ready(self) -> bool:
        """Whether it can serve."""
        return self.state is not State.FAILED


Check = Callable[[], Iterable[Finding] | Awaitable[Iterable[Finding]]]


class Examiner:
    """Examines a mirror on request, once for all requests within a second.

    Args:
        blocking: checks that wait for a disk, by the names of their findings; each runs in a worker, one at a time.
        quick: checks that do not wait for a disk; one of many things is a coroutine function, and works in slices.
        where: what the blocking ones wait for, by the same names, for people.

    Attributes:
        last: what was found last.
    """

    def __init__(
        self,
        blocking: Mapping[str, Callable[[], Finding]],
        quick: Iterable[Check],
        where: Mapping[str, Path] | None = None,
    ) -> None:
        self.last = Health(())
        self._probes = [
            _Probe(name, check, str((where or {}).get(name, "the disk")))
            for name, check in blocking.items()
        ]
        self._quick = tuple(quick)
        self._workers = Workers(max(1, len(self._probes)), "the disk")
        self._task: asyncio.Task[None] | None = None
        self._fresh_until = 0.0

    async def __call__(self) -> Health:
        """The state now. Takes little more than `DEADLINE` seconds, and goes on when the caller is cancelled."""
        idle = self._task is None or self._task.done()
        if idle and time.monotonic() >= self._fresh_until:
            self._task = asyncio.create_task(self._examine())
        if self._task is not None:
            await asyncio.shield(self._task)
        return self.last

    async def close(self) -> None:
        """Stop examining. A worker that hangs is left behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._workers.shutdown()

    async def _examine(self) -> None:
        found = await asyncio.gather(*(probe.look(self._workers) for probe in self._probes))
        quick = [finding for check in self._quick for finding in await _safely(check)]
        self.last = Health((*found, *quick))
        self._fresh_until = time.monotonic() + FRESH


class _Probe:
    """A check that may hang: it is not begun again before it has ended."""

    def __init__(self, name: str, check: Callable[[], Finding], where: str) -> None:
        self._name = name
        self._where = where
        self._check = check
        self._future: asyncio.Future[Finding] | None = None
        self._since = 0.0

    async def look(self, workers: Workers) -> Finding:
        if self._future is None:
            self._since = time.monotonic()
            self._future = asyncio.get_running_loop().run_in_executor(workers, self._check)
        left = self._since + DEADLINE - time.monotonic()
        await asyncio.wait([self._future], timeout=max(0.0, left))
        if not self._future.done():
            age = time.monotonic() - self._since
            words = (
                f"{self._where} has not answered for {age:.0f} s: see the kernel's log (dmesg);"
                " what is in memory is served, the rest passes through from upstream"
            )
            return Finding(self._name, State.DEGRADED, words)
        future, self._future = self._future, None
        [found] = await _safely(lambda: [future.result()])
        return found


async def _safely(check: Check) -> list[Finding]:
    """The findings of a check; where it raises, one finding that says so."""
    try:
        found = check()
        return list(await found if isinstance(found, Awaitable) else found)
    except Exception:
        LOG.exception("a check of the mirror's health failed")
        return [Finding("checks", State.DEGRADED, "a check failed itself; the log says how")]


def writable(name: str, directory: Path, held: Callable[[Path], bool] = lambda _: True) -> Finding:
    """Whether a file can be made in a directory; waits for the disk.

    Args:
        name: of the check.
        directory: to try.
        held: whether no other mirror can take the directory.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"ok")
            file.flush()
            synced = sync(file.fileno()) & sync_folder(directory)
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            words = f"{directory} cannot be tried now: {error.strerror}"
            return Finding(name, State.DEGRADED, words)
        words = (
            f"cannot write to {directory}: {error.strerror}; nothing new is kept:"
            " look at its owner, its mount and the disk"
        )
        return Finding(name, State.DEGRADED if error.errno in FULL else State.FAILED, words)
    if not held(directory):
        words = (
            f"{directory} is another one than at the start, or its lock file is gone: a second mirror"
            " could use it too; mount the right one, and restart the mirror"
        )
        return Finding(name, State.DEGRADED, words)
    note = "" if synced else f"; {NOT_SYNCED}"
    return Finding(name, State.OK, f"{directory} can be written to{note}")


class DiskSpace:
    """Whether a disk has what must stay free; a check that waits for the disk.

    Args:
        directory: on that disk.
        min_free: gives the bytes that must stay free.

    Attributes:
        free: bytes that were free at the last look; None before the first.
    """

    def __init__(self, directory: Path, min_free: Callable[[], int]) -> None:
        self.free: int | None = None
        self._directory = directory
        self._min_free = min_free

    def __call__(self) -> Finding:
        """Look."""
        try:
            facts = os.statvfs(self._directory)
        except OSError as error:
            words = f"{self._directory}: {error.strerror}; mount it, or make it anew"
            return Finding("disk", State.FAILED, words)
        least, free = self._min_free(), facts.f_bavail * facts.f_frsize
        self.free = free
        if facts.f_files and not facts.f_favail:
            words = (
                f"the file system of {self._directory} has no inode left: packages are served without being cached;"
                " remove files there"
            )
            return Finding("disk", State.DEGRADED, words)
        if free < least:
            words = (
                f"{free} bytes are free on the disk of {self._directory}, fewer than min_free ({least}):"
                " packages are served without being cached; make room or lower cache.max_size"
            )
            return Finding("disk", State.DEGRADED, words)
        return Finding("disk", State.OK, f"{free} bytes are free, {least} must be")
