"""`omaha-mirror sync`: let the running mirror ask upstream, and print where each track leads."""

from __future__ import annotations

import json
from pathlib import Path

import click

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.running import Json, ask
from omaha_mirror.text import printable


def run(track: str | None, config_path: Path | None, as_json: bool) -> None:
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
