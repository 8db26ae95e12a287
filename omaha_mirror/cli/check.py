"""`omaha-mirror check`: be a machine that asks for an update."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from omaha_mirror.cli.agent import Agent, Answer
from omaha_mirror.cli.client_config import update_url
from omaha_mirror.cli.connections import connections
from omaha_mirror.cli.download import PAUSE, UpdateFailed
from omaha_mirror.cli.watch import LONGEST, Bar, Downloaded, Lines, Silent, Watch
from omaha_mirror.omaha import FLATCAR_APP_ID, AppStatus, BadValue, Machine, Offer, Package
from omaha_mirror.telemetry import printable

DEFAULT_SERVER = "http://127.0.0.1:8000/v1/update/"
NO_UPDATE = """\
No update. That is no error: it is what a machine is told that has the version of its track already,
or whose track is held. It is also the first answer while a mirror still looks a release up: ask again
in a few seconds. The mirror's log has the reason of each check."""
UNKNOWN_APP = "The server does not know the application {}: the machine asks the wrong server, or --app-id is wrong."
NO_OEM_PACKAGE = """\
There is no oem-{}.gz in it. If this OEM has one, the machine looks for it at update.release.flatcar-linux.net itself."""


@dataclass(slots=True)
class Told:
    """What came of a check.

    Attributes:
        server: that was asked.
        answer: None where there was none that a machine could use.
        downloads: the packages that are here and proven.
        error: why the machine's update would fail, or None.
    """

    server: str
    answer: Answer | None = None
    downloads: list[Downloaded] = field(default_factory=list)
    error: UpdateFailed | None = None


def _server(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return update_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value}: {error}") from None


@click.command()
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    callback=_server,
    metavar="URL",
    help="The mirror: its base URL, or the SERVER of update.conf.",
)
@click.option("--track", default="stable", show_default=True, help="The machine's GROUP.")
@click.option("--version", default="0.0.0", show_default=True, help="The version that it runs.")
@click.option("--board", default="amd64-usr", show_default=True)
@click.option("--oem", default="", metavar="ID", help="Its OEM, such as azure.  [default: none]")
@click.option("--app-id", default=FLATCAR_APP_ID, show_default=True, metavar="UUID")
@click.option(
    "--machine-id",
    metavar="HEX",
    help="32 hexadecimal digits.  [default: made from this host's name, the same at each call]",
)
@click.option(
    "--download",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Download what is offered to this folder, verify it, and report to the server as a machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    server: str,
    track: str,
    version: str,
    board: str,
    oem: str,
    app_id: str,
    machine_id: str | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Ask a mirror for an update, as a machine does.

    The answer is held to all that update_engine and ue-rs demand of it. With --download the payload, the package of
    the OEM and all system extensions are fetched as the machine would, and nothing gets its name before its size and
    digests are right.

    Exit status: 0 an answer, no update included; 1 a machine's update would fail; 4 wrong bytes; 5 no answer.
    """
    machine = Machine(
        version=version,
        machineid=machine_id or _machine_id(),
        appid=app_id.strip("{}"),
        track=track,
        board=board,
        oem=oem,
    )
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        told = asyncio.run(run_check(machine, server, directory, silent=as_json))
    except BadValue as error:
        raise click.UsageError(error.message) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(as_data(told), indent=2))
    else:
        for line in _words(told, machine):
            click.echo(line)
    if told.error is not None:
        click.echo(f"Error: {printable(str(told.error), LONGEST)}", err=True)
        raise SystemExit(told.error.exit)


async def run_check(
    machine: Machine,
    server: str,
    directory: Path | None,
    *,
    silent: bool = False,
    pause: float = PAUSE,
) -> Told:
    """Ask, and where a directory is given take what is offered.

    Args:
        machine: who asks.
        server: the SERVER of update.conf.
        directory: for the packages; exists.
        silent: show no progress.
        pause: seconds before a download that was cut goes on.

    Raises:
        BadValue: the machine has something that cannot be written as XML.
        OSError: the disk failed.
    """
    told = Told(server)
    with _watch(silent) as watch:
        async with connections() as session:
            agent = Agent(machine, server, session, watch, pause)
            told.downloads = agent.downloads
            try:
                told.answer = await agent.ask()
                if directory is not None and isinstance(told.answer.outcome, Offer):
                    await agent.update(told.answer.outcome, directory)
            except UpdateFailed as error:
                told.error = error
    return told


def as_data(told: Told) -> dict[str, Any]:
    """What came of a check, for JSON; the keys are always the same. Digests are in hex, sizes in bytes."""
    offer = _offer(told)
    outcomes = {True: "offer", False: "noupdate"}
    return {
        "server": told.server,
        "outcome": outcomes[offer is not None] if told.answer is not None else None,
        "app_status": told.answer.app_status if told.answer is not None else None,
        "poll_interval": told.answer.outcome.poll_interval if told.answer is not None else None,
        "version": offer.version if offer is not None else None,
        "packages": [_package(offer, p) for p in offer.packages] if offer is not None else [],
        "downloads": [
            {
                "name": d.name,
                "path": str(d.path),
                "size": d.size,
                "seconds": round(d.seconds, 3),
                "requests": d.requests,
                "cache_status": d.cache_status,
            }
            for d in told.downloads
        ],
        "error": str(told.error) if told.error is not None else None,
    }


def _offer(told: Told) -> Offer | None:
    outcome = told.answer.outcome if told.answer is not None else None
    return outcome if isinstance(outcome, Offer) else None


def _package(offer: Offer, package: Package) -> dict[str, Any]:
    sha256 = package.hash_sha256 or (offer.sha256 if package is offer.packages[0] else None)
    return {
        "name": package.name,
        "url": offer.url_of(package),
        "size": package.size,
        "required": package.required,
        "sha1": package.hash.hex if package.hash is not None else None,
        "sha256": sha256.hex if sha256 is not None else None,
    }


def _words(told: Told, machine: Machine) -> Iterator[str]:
    """What came of a check, for people."""
    if told.answer is None:
        return
    offer = _offer(told)
    if offer is None:
        unknown = told.answer.app_status == AppStatus.UNKNOWN_APPLICATION
        yield UNKNOWN_APP.format(machine.appid) if unknown else NO_UPDATE
        return
    yield (
        f"{printable(offer.version)} is offered to a machine with {machine.version}"
        f" (track {machine.track}, {machine.board}):"
    )
    for package in offer.packages:
        yield f"  {printable(package.name):<32}{decimal(package.size or 0):>10}"
    yield f"  from {' or '.join(map(printable, offer.codebases))}"
    if machine.oem and not any(p.name == f"oem-{machine.oem}.gz" for p in offer.packages):
        yield NO_OEM_PACKAGE.format(machine.oem)
    for d in told.downloads:
        yield f"{printable(str(d.path), LONGEST)} is verified: {decimal(d.size)} in {d.seconds:.2f} s"


def _machine_id() -> str:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"omaha-mirror-check.{socket.gethostname()}").hex


def _watch(silent: bool) -> Bar | nullcontext[Watch]:
    if silent:
        return nullcontext(Silent())
    return Bar() if sys.stderr.isatty() else nullcontext(Lines())
