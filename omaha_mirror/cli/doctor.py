"""`omaha-mirror doctor`: make all checks, and print them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from omaha_mirror.cli.doctor_findings import Found, fail, ok
from omaha_mirror.cli.doctor_host import examine_host
from omaha_mirror.cli.doctor_network import examine_network
from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.terminal import LONGEST
from omaha_mirror.config import Config, ConfigError, load_to_serve
from omaha_mirror.text import printable


def run(config_path: Path | None, as_json: bool) -> None:
    """Make the checks, print them, and exit with the worst."""
    try:
        config = load_to_serve(config_path, os.environ)
    except ConfigError as error:
        found = [fail("config", str(problem), Exit.BAD_CONFIG) for problem in error.problems]
    else:
        good = ok("config", f"{config_path or 'built-in defaults, there is no file'}")
        found = [good, *asyncio.run(examine(config))]
    if as_json:
        click.echo(json.dumps({"checks": [_as_data(each) for each in found]}, indent=2))
    else:
        for each in found:
            click.echo(f"{each.state:<4}  {each.check}: {_shown(each)}")
    raise SystemExit(outcome(found))


async def examine(config: Config) -> list[Found]:
    """All checks that need a valid config."""
    host, network = await asyncio.gather(examine_host(config), examine_network(config))
    return [*host, *network]


def outcome(found: Sequence[Found]) -> Exit:
    """The exit code: a fault of this host comes before one of upstream."""
    exits = {each.exit for each in found if each.state == "fail"}
    worst = (Exit.BAD_CONFIG, Exit.FAILURE, Exit.UPSTREAM_UNREACHABLE)
    return next((exit_ for exit_ in worst if exit_ in exits), Exit.OK)


def _as_data(found: Found) -> dict[str, str]:
    return {name: value for name, value in asdict(found).items() if name != "exit"}


def _shown(found: Found) -> str:
    """The words, made safe for terminals: some came from outside. Those about the config are our own, and have lines."""
    if found.check == "config":
        return found.words
    return printable(found.words, LONGEST)
