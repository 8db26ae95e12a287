"""`omaha-mirror machines`: list the machines, with all texts that they sent made safe for terminals and spreadsheets."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import click
from rich.table import Table
from rich.text import Text

from omaha_mirror.cli.running import Json, running_mirror
from omaha_mirror.cli.terminal import print_table
from omaha_mirror.config import Config, load
from omaha_mirror.text import iso, minute, printable

PER_PAGE = 1000
FORMULA = ("=", "+", "-", "@")
"""How a text starts that a spreadsheet takes for a formula, white space before it or not."""
COLUMNS = (
    "machineid",
    "alias",
    "address",
    "version",
    "track",
    "board",
    "oem",
    "oemversion",
    "alephversion",
    "state",
    "errorcode",
    "error",
    "reason",
    "offered",
    "first_seen",
    "last_seen",
    "app_id",
)
TIMES = {"first_seen", "last_seen"}


def run(
    search: str,
    state: str | None,
    track: str | None,
    version: str | None,
    as_json: bool,
    as_csv: bool,
    config_path: Path | None,
) -> None:
    """Print the machines that match, in the order of their ids."""
    wanted = {"search": search or None, "state": state, "track": track, "version": version}
    query = {name: value for name, value in wanted.items() if value is not None}
    found = asyncio.run(_machines(load(config_path, os.environ), query))
    if as_json:
        click.echo(json.dumps({"machines": found}, indent=2))
    elif as_csv:
        rows = csv.writer(sys.stdout)
        rows.writerow(COLUMNS)
        rows.writerows([cell(name, machine[name]) for name in COLUMNS] for machine in found)
    else:
        _show(found)


async def _machines(config: Config, query: Mapping[str, str]) -> list[Json]:
    """All pages, by the id: a machine that checks in meanwhile moves others by one place, and is not listed twice. Raises Failure."""
    found: dict[tuple[str, str], Json] = {}
    order = {"sort": "machineid", "order": "asc", "per_page": str(PER_PAGE)}
    async with running_mirror(config) as mirror:
        for page in count(1):
            parameters = urlencode({**query, **order, "page": str(page)})
            machines = (await mirror.ask("GET", f"/api/v1/machines?{parameters}"))["machines"]
            found |= {(machine["machineid"], machine["app_id"]): machine for machine in machines}
            if len(machines) < PER_PAGE:
                break
    return list(found.values())


def cell(name: str, value: object) -> str:
    """A value as CSV: times as ISO 8601, texts on one line, and none that a spreadsheet would calculate."""
    if value is None:
        return ""
    if name in TIMES and isinstance(value, int | float):
        return iso(value)
    text = printable(str(value))
    return f"'{text}" if isinstance(value, str) and text.lstrip().startswith(FORMULA) else text


def _show(found: list[Json]) -> None:
    if not found:
        click.echo("no machine: none has asked this mirror yet, or none matches")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for heading in ("MACHINE", "ALIAS", "ADDRESS", "VERSION", "TRACK", "STATE", "LAST SEEN"):
        table.add_column(heading, no_wrap=True)
    for machine in found:
        names = ("machineid", "alias", "address", "version", "track", "state")
        seen = minute(machine["last_seen"])
        table.add_row(*(Text(printable(machine[name])) for name in names), seen)
    print_table(table)
