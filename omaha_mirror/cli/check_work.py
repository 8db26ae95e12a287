"""Being a machine that asks for an update, and telling what it is told."""

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

from omaha_mirror.client.agent import Agent, Answer
from omaha_mirror.client.connections import connections
from omaha_mirror.client.download import PAUSE, UpdateFailed
from omaha_mirror.client.watch import LONGEST, Bar, Downloaded, Lines, Silent, Watch
from omaha_mirror.observability.telemetry import printable
from omaha_mirror.omaha import AppStatus, BadValue, Machine, Offer, Package

NO_UPDATE = """\
No update. That is no error: it is what a machine is told that has the version of its track already,
or whose track is held. It is also the first answer while a mirror still looks a release up: ask again
in a few seconds. The protocol has no words for the reason: the mirror's log has it for each check, and
there  omaha-mirror explain {}  tells it."""
REFUSED = "No update. The server answers {} for the application {}."
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


def run(
    machine: Machine, server: str, directory: Path | None, *, as_json: bool, quiet: bool
) -> None:
    """Ask, take what is offered where there is a directory for it, and print what came of it."""
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        told = asyncio.run(run_check(machine, server, directory, silent=as_json or quiet))
    except BadValue as error:
        raise click.UsageError(error.message) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(as_data(told), indent=2))
    elif not quiet:
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
        yield _why_not(told.answer.app_status, machine)
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


def _why_not(app_status: str, machine: Machine) -> str:
    """What is known here of why there is no update."""
    match app_status:
        case AppStatus.OK:
            return NO_UPDATE.format(machine.machineid)
        case AppStatus.UNKNOWN_APPLICATION:
            return UNKNOWN_APP.format(machine.appid)
        case _:
            return REFUSED.format(printable(app_status), machine.appid)


def machine_id() -> str:
    """The id of the machine that this host plays: made from its name, the same at each call."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"omaha-mirror-check.{socket.gethostname()}").hex


def _watch(silent: bool) -> Bar | nullcontext[Watch]:
    if silent:
        return nullcontext(Silent())
    return Bar() if sys.stderr.isatty() else nullcontext(Lines())
