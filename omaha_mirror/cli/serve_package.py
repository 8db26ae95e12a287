"""`omaha-mirror serve-package`: offer one package on disk, as go-omaha's program of that name does."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.serve import run_until_told
from omaha_mirror.config import Address
from omaha_mirror.config.units import bracketed
from omaha_mirror.local import LocalMirror
from omaha_mirror.omaha import BadVersion, Version
from omaha_mirror.telemetry import set_up_logging
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener

EVERY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


def _version(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return Version.parse(value).text
    except BadVersion as error:
        raise click.BadParameter(error.message) from None


def _address(_: click.Context, __: click.Parameter, value: str) -> Address:
    try:
        return Address.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("serve-package")
@click.option(
    "--package-file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The update payload.",
)
@click.option("--package-version", "version", required=True, callback=_version, help="Its version.")
@click.option("--listen-address", "address", default=":8000", show_default=True, callback=_address)
def serve_package(path: Path, version: str, address: Address) -> None:
    """Offer one package on disk to every machine that asks and has an older version.

    Application, board and track do not matter. The flags may be written with one dash.
    """
    set_up_logging("auto", "info")
    try:
        mirror = LocalMirror(path, version)
        try:
            asyncio.run(_serve(mirror, address))
        finally:
            mirror.close()
    except OSError as error:
        click.echo(f"omaha-mirror: {error}", err=True)
        raise SystemExit(Exit.FAILURE) from None


async def _serve(mirror: LocalMirror, address: Address) -> None:
    def say(addresses: list[Address]) -> None:
        release = mirror.release
        click.echo(f"serving version {release.version}, {decimal(release.payload.size)}", err=True)
        click.echo(f"SERVER={update_server(addresses[0])}", err=True)

    await run_until_told(Listener(PublicApp(mirror)), [address], say)


def update_server(listening: Address) -> str:
    """The SERVER of update.conf for an address that is listened on."""
    host = socket.gethostname() if listening.host in EVERY_INTERFACE else listening.host
    return f"http://{bracketed(host)}:{listening.port}/v1/update/"
