"""Showing downloads to people as they happen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from omaha_mirror.observability.telemetry import printable

LONGEST = 1000
"""Characters of a line that holds something a server sent."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A package that is here and proven.

    Attributes:
        name: as the answer has it.
        path: where it lies.
        size: in bytes.
        seconds: from the first request to the rename.
        requests: how many GETs it took.
        cache_status: the Cache-Status field of the first answer (RFC 9211), or "".
    """

    name: str
    path: Path
    size: int
    seconds: float
    requests: int
    cache_status: str


class Watch(Protocol):
    """Told what happens to the downloads of one machine, one download at a time."""

    def began(self, name: str, size: int, cache_status: str) -> None:
        """The head of the first answer is here."""

    def received(self, count: int) -> None:
        """So many bytes of the package are here by now."""

    def trouble(self, line: str) -> None:
        """Something went wrong and is tried again."""

    def ended(self, downloaded: Downloaded) -> None:
        """The package is here and proven."""


class Silent:
    """Shows nothing."""

    def began(self, name: str, size: int, cache_status: str) -> None:
        """See `Watch`."""

    def received(self, count: int) -> None:
        """See `Watch`."""

    def trouble(self, line: str) -> None:
        """See `Watch`."""

    def ended(self, downloaded: Downloaded) -> None:
        """See `Watch`."""


class Lines(Silent):
    """A line for each thing that happens, to standard error."""

    def began(self, name: str, size: int, cache_status: str) -> None:
        """See `Watch`."""
        told = f" ({printable(cache_status)})" if cache_status else ""
        click.echo(f"downloading {printable(name)}, {decimal(size)}{told}", err=True)

    def trouble(self, line: str) -> None:
        """See `Watch`."""
        click.echo(printable(line, LONGEST), err=True)


class Bar(Silent):
    """A progress bar for each package on the terminal; a context manager."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def began(self, name: str, size: int, cache_status: str) -> None:  # noqa: ARG002 (a port's method)
        """See `Watch`."""
        self._task = self._progress.add_task(printable(name), total=size)

    def received(self, count: int) -> None:
        """See `Watch`."""
        self._progress.update(self._task, completed=count)

    def trouble(self, line: str) -> None:
        """See `Watch`."""
        self._progress.console.print(printable(line, LONGEST), markup=False, highlight=False)
