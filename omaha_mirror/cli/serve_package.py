"""`omaha-mirror serve-package`: offer one package on disk, as go-omaha's program of that name does."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Failure
from omaha_mirror.cli.serve import run_until_stopped
from omaha_mirror.config import Address
from omaha_mirror.config.units import bracketed
from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.packages.single_package import SinglePackage
from omaha_mirror.web.interfaces import Unobserved
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener


def run(path: Path, version: str, listen: str, log_level: str | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    begin_to_queue()
    version, address = _version(version), _address(listen)
    set_up_logging("auto", log_level or "info")
    try:
        mirror = SinglePackage(path, version)
        try:
            asyncio.run(_serve(mirror, address))
        finally:
            mirror.close()
    except OSError as error:
        raise Failure(str(error), prefix="omaha-mirror: ") from None


def _version(text: str) -> str:
    try:
        return Version.parse(text).text
    except BadVersion as error:
        raise click.BadParameter(error.message, param_hint="--package-version") from None


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen-address") from None


async def _serve(mirror: SinglePackage, address: Address) -> None:
    def say(addresses: list[Address]) -> None:
        release = mirror.release
        click.echo(f"serving version {release.version}, {decimal(release.payload.size)}", err=True)
        click.echo(f"SERVER={update_server(addresses[0])}", err=True)

    await run_until_stopped(Listener(PublicApp(mirror, mirror, Unobserved())), [address], say)


def update_server(listening: Address) -> str:
    """The SERVER of update.conf for an address that is listened on."""
    host = socket.gethostname() if listening.is_everywhere else listening.host
    return f"http://{bracketed(host)}:{listening.port}/v1/update/"
