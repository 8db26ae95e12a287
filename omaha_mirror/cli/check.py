"""`omaha-mirror check`: ask for an update as a machine, and print the answer."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.terminal import LONGEST, watching
from omaha_mirror.client.agent import Agent, Answer
from omaha_mirror.client.connections import connections
from omaha_mirror.client.download import PAUSE, Downloaded, Unreachable, UpdateFailed, WrongBytes
from omaha_mirror.omaha import FLATCAR_APP_ID, AppStatus, BadValue, Machine, Offer, Package
from omaha_mirror.text import printable

NO_UPDATE = """\
No update. That is no error: a machine that has the version of its track already, or whose track is held,
gets this answer. It is also the first answer while a mirror still looks a release up: ask again in a few
seconds. The protocol has no field for the reason: the mirror's log has it for each check, and on the
mirror  omaha-mirror explain {}  prints it."""
REFUSED = "No update. The server answers {} for the application {}."
UNKNOWN_APP = "The server does not know the application {}: the machine asks the wrong server, or --app-id is wrong."
NO_OEM_PACKAGE = """\
There is no oem-{}.gz in it. If this OEM has one, the machine looks for it at update.release.flatcar-linux.net itself."""
EXITS = {WrongBytes: Exit.VERIFICATION_FAILED, Unreachable: Exit.UPSTREAM_UNREACHABLE}


@dataclass(slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        server: the SERVER of update.conf.
        answer: None if a machine could not use the answer.
        downloads: the packages that are downloaded and verified.
        error: why the machine's update would fail, or None.
    """

    server: str
    answer: Answer | None = None
    downloads: list[Downloaded] = field(default_factory=list)
    error: UpdateFailed | None = None


def run(
    server: str,
    track: str,
    version: str,
    board: str,
    oem: str,
    app_id: str | None,
    machine_id: str | None,
    directory: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Ask, download what is offered if there is a directory for it, and print the result."""
    machine = Machine(
        version=version,
        machineid=machine_id or _machine_id(),
        appid=(app_id or FLATCAR_APP_ID).strip("{}"),
        track=track,
        board=board,
        oem=oem,
    )
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        result = asyncio.run(run_check(machine, server, directory, silent=as_json or quiet))
    except BadValue as error:
        raise click.UsageError(error.message) from None
    if as_json:
        click.echo(json.dumps(as_data(result), indent=2))
    elif not quiet:
        for line in _words(result, machine):
            click.echo(line)
    if result.error is not None:
        exit_ = EXITS.get(type(result.error), Exit.FAILURE)
        raise Failure(printable(str(result.error), LONGEST), exit_)


async def run_check(
    machine: Machine,
    server: str,
    directory: Path | None,
    *,
    silent: bool = False,
    pause: float = PAUSE,
) -> CheckResult:
    """Ask, and download what is offered if a directory is given.

    Args:
        machine: asks.
        server: the SERVER of update.conf.
        directory: for the packages; exists.
        silent: show no progress.
        pause: seconds before an interrupted download continues.

    Raises:
        BadValue: a value of the machine cannot be written as XML.
        OSError: the disk failed.
    """
    result = CheckResult(server)
    with watching(silent=silent) as watch:
        async with connections() as session:
            agent = Agent(machine, server, session, watch, pause)
            result.downloads = agent.downloads
            try:
                result.answer = await agent.ask()
                if directory is not None and isinstance(result.answer.outcome, Offer):
                    await agent.update(result.answer.outcome, directory)
            except UpdateFailed as error:
                result.error = error
    return result


def as_data(result: CheckResult) -> dict[str, Any]:
    """The result of a check, for JSON; the keys are always the same. Digests are in hex, sizes in bytes."""
    offer = _offer(result)
    outcomes = {True: "offer", False: "noupdate"}
    return {
        "server": result.server,
        "outcome": outcomes[offer is not None] if result.answer is not None else None,
        "app_status": result.answer.app_status if result.answer is not None else None,
        "poll_interval": result.answer.outcome.poll_interval if result.answer is not None else None,
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
            for d in result.downloads
        ],
        "error": str(result.error) if result.error is not None else None,
    }


def _offer(result: CheckResult) -> Offer | None:
    outcome = result.answer.outcome if result.answer is not None else None
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


def _words(result: CheckResult, machine: Machine) -> Iterator[str]:
    """The result of a check, for people."""
    if result.answer is None:
        return
    offer = _offer(result)
    if offer is None:
        yield _why_not(result.answer.app_status, machine)
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
    for d in result.downloads:
        yield f"{printable(str(d.path), LONGEST)} is verified: {decimal(d.size)} in {d.seconds:.2f} s"


def _why_not(app_status: str, machine: Machine) -> str:
    """Likely reasons why there is no update."""
    match app_status:
        case AppStatus.OK:
            return NO_UPDATE.format(machine.machineid)
        case AppStatus.UNKNOWN_APPLICATION:
            return UNKNOWN_APP.format(machine.appid)
        case _:
            return REFUSED.format(printable(app_status), machine.appid)


def _machine_id() -> str:
    """An id made from this host's name, the same at each call."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"omaha-mirror-check.{socket.gethostname()}").hex
