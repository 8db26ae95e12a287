"""Having the running mirror fetch a release, and showing how that goes."""

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
from omaha_mirror.cli.running import Json, Refused, running_mirror
from omaha_mirror.client.watch import Bar, Lines
from omaha_mirror.config import Config, load
from omaha_mirror.observability.telemetry import printable


def run(target: str, board: str, config_path: Path | None, as_json: bool) -> None:
    """Fetch a release, and print what arrives."""
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
