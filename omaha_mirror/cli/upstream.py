"""`omaha-mirror fetch` and `sync`: let the running mirror download a release, or ask upstream about its tracks."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import aclosing
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.running import Json, ask, running_mirror
from omaha_mirror.cli.terminal import watching
from omaha_mirror.config import Config, load
from omaha_mirror.text import printable


def fetch(target: str, board: str, config_path: Path | None, as_json: bool) -> None:
    """Download a release, and print what arrives."""
    if asyncio.run(_fetch(load(config_path, os.environ), target, board, as_json)):
        raise SystemExit(Exit.FAILURE)


async def _fetch(config: Config, target: str, board: str, as_json: bool) -> bool:
    """Whether a package could not be downloaded."""
    failed = False
    async with running_mirror(config) as mirror:
        lines = mirror.lines("/api/v1/fetch", {"target": target, "board": board})
        with watching(silent=as_json) as watch:
            name = ""
            async with aclosing(lines):
                async for step in lines:
                    failed = failed or bool(step["error"])
                    if as_json:
                        click.echo(json.dumps(step))
                        continue
                    if step["name"] != name:
                        name = step["name"]
                        watch.began(name, step["size"], "")
                    watch.received(step["filled"])
                    if step["done"]:
                        _say(step)
    return failed


def _say(step: Json) -> None:
    name = printable(step["name"])
    if step["error"]:
        click.echo(f"{name} cannot be downloaded: {printable(step['error'])}", err=True)
    else:
        click.echo(f"{name} is here, {decimal(step['size'])}")


def sync(track: str | None, config_path: Path | None, as_json: bool) -> None:
    """Ask about one track or all, and print where each leads."""
    body = {} if track is None else {"track": track}
    tracks = (answer := ask(config_path, "POST", "/api/v1/sync", body))["tracks"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for followed in tracks:
            click.echo(_line(followed))
        if not tracks:
            click.echo(
                "no track is followed yet: the mirror follows a track when its first machine asks"
            )
    if any(followed["trouble"] for followed in tracks):
        raise SystemExit(Exit.UPSTREAM_UNREACHABLE)


def _line(followed: Json) -> str:
    name = printable(f"{followed['track']} {followed['board']}")
    if followed["trouble"]:
        return f"{name}: {printable(followed['trouble'])}"
    offers = " -> ".join(printable(step["version"]) for step in followed["steps"])
    return f"{name}: {offers or printable(followed['detail']) or 'nothing is offered'}"
