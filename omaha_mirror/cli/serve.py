"""`omaha-mirror serve`: run the mirror."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.options import config_option
from omaha_mirror.config import Address, Config, load
from omaha_mirror.service import Service
from omaha_mirror.telemetry import set_up_logging
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener


@click.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the mirror until it is told to stop."""
    config = load(config_path, os.environ)
    set_up_logging(config.log.format, config.log.level)
    try:
        asyncio.run(_serve(config))
    except OSError as error:
        click.echo(f"omaha-mirror: {error}", err=True)
        raise SystemExit(Exit.FAILURE) from None


async def _serve(config: Config) -> None:
    service = Service(config)
    await service.start()
    try:
        await run_until_told(Listener(PublicApp(service)), config.listen, _say)
    finally:
        await service.close()


def _say(addresses: list[Address]) -> None:
    for address in addresses:
        click.echo(f"omaha-mirror listens on http://{address}", err=True)


async def run_until_told(
    listener: Listener, addresses: Iterable[Address], say: Callable[[list[Address]], None]
) -> None:
    """Listen until SIGTERM or SIGINT, and return when the last responses have ended.

    Args:
        listener: not started yet.
        addresses: to listen on.
        say: told the addresses with the ports that were really taken.

    Raises:
        OSError: an address cannot be had.
    """
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    say(await listener.start(addresses))
    try:
        await told.wait()
    finally:
        await listener.stop()
