"""Having the running mirror explain a machine, or a request."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click

from omaha_mirror.cli.running import Json, Refused, running_mirror
from omaha_mirror.config import Config, load
from omaha_mirror.observability.telemetry import printable

LIMIT = 64 * 1024
"""Bytes of a request that the mirror reads."""
LONGEST = 1000
"""Characters of a sentence."""


def machine(name: str, config_path: Path | None, *, as_json: bool) -> None:
    """Print why a machine is where it is."""
    told = _ask(config_path, "GET", f"/api/v1/machines/{quote(name, safe='')}")
    _print(told, told["explanation"], as_json=as_json)


def request(path: Path, config_path: Path | None, *, ask_upstream: bool, as_json: bool) -> None:
    """Print what a machine would be told that sent the request in a file."""
    body = {"request": _read(path), "upstream": ask_upstream}
    told = _ask(config_path, "POST", "/api/v1/explain", body)
    _print(told, [line for app in told["apps"] for line in app["explanation"]], as_json=as_json)


def _print(told: Json, sentences: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        for sentence in sentences:
            click.echo(printable(sentence, LONGEST))


def _read(path: Path) -> str:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(LIMIT + 1)
        else:
            with path.open("rb") as file:
                data = file.read(LIMIT + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LIMIT:
        raise click.ClickException(f"{path}: an Omaha request has at most {LIMIT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is not in UTF-8, so it is no Omaha request") from None


def _ask(config_path: Path | None, method: str, path: str, body: Json | None = None) -> Json:
    try:
        return asyncio.run(_asked(load(config_path, os.environ), method, path, body))
    except Refused as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit) from None


async def _asked(config: Config, method: str, path: str, body: Json | None) -> Json:
    async with running_mirror(config) as mirror:
        return await mirror.ask(method, path, body)
