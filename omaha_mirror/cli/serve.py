"""`omaha-mirror serve`: run the mirror with its listeners and signals, and stop it in order."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import click
import structlog

from omaha_mirror.aio.workers import STATE
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.reload import Reload
from omaha_mirror.cli.supervision import Starts, status, supervised
from omaha_mirror.config import Address, Config, load_to_serve
from omaha_mirror.observability import findings
from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging
from omaha_mirror.service import Service
from omaha_mirror.systemd import Notifier, passed_sockets, watchdog
from omaha_mirror.web.accepting import Place
from omaha_mirror.web.admin import token as admin_token
from omaha_mirror.web.admin.app import AdminApp, admin_routes
from omaha_mirror.web.fairness import fair_loop
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.server import Listener

LOG = structlog.get_logger(__name__)
STOP = 27.0
"""Seconds from the signal on: less than systemd waits (TimeoutStopSec of the unit)."""
GARBAGE = 500, 2, 2000
"""New objects between two looks for garbage, and how many of these come before a longer one: each takes milliseconds."""
ADMIN_CONNECTIONS = 64
"""At once, to the admin listener; they are reserved, beside those of machines."""
PUBLIC, ADMIN = "omaha", "admin"
"""Names that sockets from systemd have: they take the place of `listen` and `admin.listen`."""

Sockets = Mapping[str, Sequence[socket.socket]]


def run(config_path: Path | None, log_level: str | None) -> None:
    """Run the mirror until SIGTERM or SIGINT."""
    begin_to_queue()
    config = load_to_serve(config_path, os.environ)
    set_up_logging(config.log.format, log_level or config.log.level)
    starts = Starts(os.environ)
    if wait := starts.begin():
        LOG.warning("the mirror ended without being stopped, again and again", starts_in=wait)
        time.sleep(wait)  # a signal ends it
    try:
        sockets = passed_sockets(os.environ, (PUBLIC, ADMIN))
        with asyncio.Runner(loop_factory=fair_loop) as runner:
            runner.run(_serve(config, config_path, log_level, sockets))
        starts.end()
    except OSError as error:
        raise Failure(_words(error), prefix="omaha-mirror: ") from None
    except Exception:
        LOG.exception("a defect ends the mirror")
        raise


def _words(error: OSError) -> str:
    """What happened and where, and for a path also what to do."""
    if error.filename is None:
        return str(error)
    return (
        f"cannot use {error.filename}: {error.strerror};"
        " see cache.directory and state_directory in the config"
    )


async def _serve(
    config: Config, config_path: Path | None, log_level: str | None, sockets: Sockets
) -> None:
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    settings = PublicSettings.of(config)
    service = Service(config)
    notifier = Notifier(os.environ)
    await service.start()
    reload = Reload(service, settings, config_path, log_level, notifier)
    service.add_check(reload.findings)
    gc.collect()
    gc.freeze()  # what lives as long as the process is not examined again for each few hundred requests
    gc.set_threshold(*GARBAGE)
    stop, loop = _stop_signal(), asyncio.get_running_loop()
    ends = loop.time() + STOP  # where it does not even start
    try:
        async with (
            reload.at(signal.SIGHUP),
            _admin(service, config, sockets[ADMIN]),
            _public(service, settings, config, sockets[PUBLIC]) as addresses,
            supervised(notifier, watchdog(os.environ), addresses[0], partial(status, service)),
        ):
            await stop.wait()
            ends = loop.time() + STOP
    finally:
        await _close(service, ends)


async def _close(service: Service, ends: float) -> None:
    """Stop what goes on; a disk that hangs keeps the process no longer than until `ends`, by the loop's clock."""
    closing = asyncio.create_task(service.close())
    await asyncio.wait([closing], timeout=ends - asyncio.get_running_loop().time())
    if not closing.done():
        click.echo(
            "omaha-mirror: a disk does not answer: it ends without having written all down; see the"
            " kernel's log (dmesg)",
            err=True,
        )
        os._exit(Exit.FAILURE)
    closing.result()


@asynccontextmanager
async def _public(
    service: Service, settings: PublicSettings, config: Config, sockets: Sequence[socket.socket]
) -> AsyncIterator[list[Address]]:
    """The listener for machines, with TLS besides where there is a certificate. Raises OSError."""
    listener = Listener(
        PublicApp(service.decisions, service.packages, service.observer, settings), settings.trusts
    )
    service.add_listener("public", lambda: listener.connections)
    service.add_check(lambda: findings.accepting("public listener", listener.short))
    async with _listening(listener, sockets or config.listen) as addresses:
        _say("http", addresses)
        if settings.certificate is not None:
            secure = await listener.start(config.tls.listen, settings.certificate.context)
            _say("https", secure)
        yield addresses


@asynccontextmanager
async def _admin(
    service: Service, config: Config, sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """The admin listener, where one is wanted. Raises OSError."""
    addresses = [Address(*sock.getsockname()[:2]) for sock in sockets] or config.admin.listen
    if not addresses:
        yield
        return
    place = admin_token.place(config, os.environ)
    far = next((address for address in addresses if not address.is_loopback), None)
    if far is not None and place == config.state_directory / "admin-token":
        raise OSError(
            f"the admin socket {far} is not loopback: with it, set admin.token_file or give systemd the"
            f" credential {admin_token.CREDENTIAL}"
        )
    token = await STATE.call(admin_token.settle, config, os.environ)
    if token.value is None:
        LOG.error("no token", why=token.trouble)
    app = AdminApp(admin_routes(service), token.value, addresses, token.trouble)
    service.add_check(lambda: findings.token(token.trouble))
    listener = Listener(app, limit=ADMIN_CONNECTIONS)
    service.add_listener("admin", lambda: listener.connections)
    service.add_check(lambda: findings.accepting("admin listener", listener.short))
    async with _listening(listener, sockets or addresses) as taken:
        service.publish_admin_address(taken[0])
        yield


def _say(scheme: str, addresses: list[Address]) -> None:
    for address in addresses:
        click.echo(f"omaha-mirror listens on {scheme}://{address}", err=True)


def _stop_signal() -> asyncio.Event:
    """Set when SIGTERM or SIGINT comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def _listening(listener: Listener, places: Iterable[Place]) -> AsyncIterator[list[Address]]:
    """Listen; gives the addresses that were really taken. Raises OSError."""
    addresses = await listener.start(places)
    try:
        yield addresses
    finally:
        await listener.stop()


async def run_until_stopped(
    listener: Listener, addresses: Iterable[Address], say: Callable[[list[Address]], None]
) -> None:
    """Listen until SIGTERM or SIGINT, and return when the last responses have ended.

    Args:
        listener: not started yet.
        addresses: to listen on.
        say: called with the addresses, whose ports are those that were taken.

    Raises:
        OSError: an address cannot be used.
    """
    stop = _stop_signal()
    async with _listening(listener, addresses) as taken:
        say(taken)
        await stop.wait()
