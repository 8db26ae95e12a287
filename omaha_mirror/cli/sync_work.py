"""Having the running mirror ask upstream, and telling what came of it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import click

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.running import Json, Refused, running_mirror
from omaha_mirror.config import Config, load
from omaha_mirror.observability.telemetry import printable


def run(track: str | None, config_path: Path | None, as_json: bool) -> None:
    """Ask about one track or all, and print where each leads."""
    try:
        told = asyncio.run(_sync(load(config_path, os.environ), track))
    except Refused as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit) from None
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        for channel in told["tracks"]:
            click.echo(_line(channel))
        if not told["tracks"]:
            click.echo("no track is followed yet: a track is learnt when its first machine asks")
    if any(channel["trouble"] for channel in told["tracks"]):
        raise SystemExit(Exit.UPSTREAM_UNREACHABLE)


async def _sync(config: Config, track: str | None) -> Json:
    async with running_mirror(config) as mirror:
        return await mirror.ask("POST", "/api/v1/sync", {} if track is None else {"track": track})


def _line(channel: Json) -> str:
    name = printable(f"{channel['track']} {channel['board']}")
    if channel["trouble"]:
        return f"{name}: {printable(channel['trouble'])}"
    offers = " -> ".join(printable(step["version"]) for step in channel["steps"])
    return f"{name}: {offers or printable(channel['detail']) or 'nothing is offered'}"
