"""`omaha-mirror fetch`: have a release in the cache before machines ask for it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing, nullcontext
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.options import config_option
from omaha_mirror.cli.running import Json, Refused, running_mirror
from omaha_mirror.cli.watch import Bar, Lines
from omaha_mirror.config import Config, load
from omaha_mirror.telemetry import printable

BOARD = "amd64-usr"


@click.command()
@click.argument("target", metavar="VERSION|TRACK")
@click.option("--board", default=BOARD, show_default=True, help="amd64-usr or arm64-usr.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each report.")
def fetch(target: str, board: str, config_path: Path | None, as_json: bool) -> None:
    """Fetch a release through the running mirror, with the extra packages that this site uses.

    TRACK is fetched in the version that the track leads to now. The exit status is 3 where there is no such release,
    and 5 where upstream cannot be reached.
    """
    config = load(config_path, os.environ)
    try:
        failed = asyncio.run(_fetch(config, target, board, as_json))
    except Refused as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit) from None
    if failed:
        raise SystemExit(Exit.FAILURE)


async def _fetch(config: Config, target: str, board: str, as_json: bool) -> bool:
    """Whether a package could not be had."""
    failed = False
    watching = Bar() if sys.stderr.isatty() and not as_json else nullcontext(Lines())
    async with running_mirror(config) as mirror:
        lines = mirror.lines("/api/v1/fetch", {"target": target, "board": board})
        with watching as watch:
            name = ""
            async with aclosing(lines):
                async for told in lines:
                    failed = failed or bool(told["error"])
                    if as_json:
                        click.echo(json.dumps(told))
                        continue
                    if told["name"] != name:
                        name = told["name"]
                        watch.began(name, told["size"], "")
                    watch.received(told["filled"])
                    if told["done"]:
                        _say(told)
    return failed


def _say(told: Json) -> None:
    name = printable(told["name"])
    if told["error"]:
        click.echo(f"{name} cannot be had: {printable(told['error'])}", err=True)
    else:
        click.echo(f"{name} is here, {decimal(told['size'])}")
