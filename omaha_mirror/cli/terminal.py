"""Output of commands: the progress of files, and tables."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Self

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
from rich.table import Table

from omaha_mirror.client.download import Watch
from omaha_mirror.text import printable

LONGEST = 1000
"""Characters of a line that holds something a server sent."""
WIDE = 240
"""Characters of a line of a table that goes to a file or a pipe."""


class Lines(Watch):
    """Writes a line for each event to standard error.

    Args:
        verb: what the command does with each file.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb

    def began(self, name: str, size: int, cache_status: str) -> None:
        """See `Watch`."""
        status = f" ({printable(cache_status)})" if cache_status else ""
        click.echo(f"{self._verb} {printable(name)}, {decimal(size)}{status}", err=True)

    def trouble(self, line: str) -> None:
        """See `Watch`."""
        click.echo(printable(line, LONGEST), err=True)


class Bar(Watch):
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


def watching(verb: str = "downloading", *, silent: bool = False) -> AbstractContextManager[Watch]:
    """Show the progress of files: as a bar on a terminal, else as lines with this verb."""
    if silent:
        return nullcontext(Watch())
    return Bar() if sys.stderr.isatty() else nullcontext(Lines(verb))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal; into a file or a pipe, without breaking its lines."""
    width = None if sys.stdout.isatty() else WIDE
    Console(width=width, highlight=False, markup=False).print(table)
