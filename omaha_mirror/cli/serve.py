"""`omaha-mirror serve`: run the mirror."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import click
import structlog

from omaha_mirror.cli import admin_token
from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.options import config_option
from omaha_mirror.config import Address, Config, ConfigError, load
from omaha_mirror.service import Service
from omaha_mirror.telemetry import set_up_logging
from omaha_mirror.web.admin import AdminApp
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener

LOG = structlog.get_logger(__name__)
GARBAGE = 10_000
"""New objects between two looks for garbage."""


@click.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the mirror until it is told to stop."""
    config = load(config_path, os.environ)
    set_up_logging(config.log.format, config.log.level)
    try:
        asyncio.run(_serve(config, config_path))
    except OSError as error:
        click.echo(f"omaha-mirror: {_words(error)}", err=True)
        raise SystemExit(Exit.FAILURE) from None


def _words(error: OSError) -> str:
    """What happened and where, and for a path also what to do."""
    if error.filename is None:
        return str(error)
    return (
        f"cannot use {error.filename}: {error.strerror};"
        " see cache.directory and state_directory in the config"
    )


async def _serve(config: Config, config_path: Path | None) -> None:
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    service = Service(config)
    await service.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, service, config_path)
    gc.collect()
    gc.freeze()  # what lives as long as the process is not looked through again for each few hundred requests
    gc.set_threshold(GARBAGE, 20, 20)
    try:
        async with _admin(service, config):
            await run_until_told(Listener(PublicApp(service)), config.listen, _say)
    finally:
        await service.close()


def _reload(service: Service, config_path: Path | None) -> None:
    """Apply what can be applied of a changed config; a broken one changes nothing."""
    try:
        config = load(config_path, os.environ)
    except ConfigError as error:
        LOG.error("the config is broken, and all stays as it was", why=str(error))
        return
    service.change_limits(config)
    LOG.info(
        "limits reloaded; the rest of the config needs a restart",
        rate_limit=config.upstream.rate_limit,
        max_fills=config.upstream.max_fills,
    )


@asynccontextmanager
async def _admin(service: Service, config: Config) -> AsyncIterator[None]:
    """The admin listener, where one is wanted. Raises OSError."""
    if not config.admin.listen:
        yield
        return
    token = admin_token.read_or_make(config.token_file)
    app = AdminApp(service.cache, service.upkeep, token, config.admin.listen)
    listener = Listener(app)
    service.reached_at((await listener.start(config.admin.listen))[0])
    try:
        yield
    finally:
        await listener.stop()


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
