"""`omaha-mirror explain`: let the running mirror explain a machine, or a request."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote

import click

from omaha_mirror.cli.exits import Failure
from omaha_mirror.cli.running import ask
from omaha_mirror.cli.terminal import LONGEST
from omaha_mirror.text import printable

LIMIT = 64 * 1024
"""Bytes of a request that the mirror reads."""


def run(
    machine: str | None,
    request_path: Path | None,
    ask_upstream: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Print why a machine got its last answer, or what the mirror would answer to the request in a file."""
    if (machine is None) == (request_path is None):
        raise click.UsageError("give a MACHINE, or a request with --request FILE")
    if ask_upstream and request_path is None:
        raise click.UsageError("--upstream goes with --request")
    if request_path is not None:
        body = {"request": _read(request_path), "upstream": ask_upstream}
        answer = ask(config_path, "POST", "/api/v1/explain", body)
        sentences = [line for app in answer["apps"] for line in app["explanation"]]
    else:
        answer = ask(config_path, "GET", f"/api/v1/machines/{quote(machine or '', safe='')}")
        sentences = answer["explanation"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
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
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LIMIT:
        raise Failure(f"{path}: an Omaha request has at most {LIMIT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Failure(f"{path} is not in UTF-8, so it is no Omaha request") from None
