"""`omaha-mirror demo`: a release server, a mirror and five machines, and what they do one after the other."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from omaha_mirror.cli.exits import Failure
from omaha_mirror.client.agent import Agent
from omaha_mirror.client.connections import connections
from omaha_mirror.client.download import Downloaded, UpdateFailed, Watch
from omaha_mirror.config import Address, CacheConfig, Config, Follow, UpstreamConfig
from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging
from omaha_mirror.omaha import Machine, Offer
from omaha_mirror.service import Service
from omaha_mirror.web.demo_release import OMAHA, DemoRelease
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener

OLD, NEW = "3815.2.0", "3815.2.1"
PATH = f"/amd64-usr/{NEW}/flatcar_production_update.gz"
RATE = 1_000_000.0
"""Bytes a second that the line to the release server carries."""
HOLD_BACK = 64 * 1024
ANYWHERE = (Address("127.0.0.1", 0),)
NEXT = """\
To run one:  omaha-mirror serve  follows upstream on every track; with  --config FILE  a track can be pinned or held.
To use it:  omaha-mirror client-config --server http://THIS-HOST:8000  prints what points a machine at it."""


def run() -> None:
    """Play the demo in a directory that is removed at the end."""
    begin_to_queue()
    set_up_logging("console", "error")
    click.echo(
        "A release server, a mirror and five machines, all on this computer and in real HTTP."
    )
    os.environ["no_proxy"] = "127.0.0.1"
    with TemporaryDirectory(prefix="omaha-mirror-demo-") as folder:
        asyncio.run(run_demo(Path(folder), RATE))


@dataclass(frozen=True, slots=True)
class Site:
    """The addresses and files of the demo.

    Attributes:
        release: the release server.
        mirror: the mirror's address, `http://host:port`.
        folder: for the machines' files.
        session: for the machines' requests.
        began: when, on the monotonic clock.
    """

    release: DemoRelease
    mirror: str
    folder: Path
    session: aiohttp.ClientSession
    began: float

    def say(self, line: str) -> None:
        """Print an event, with the seconds since the start."""
        click.echo(f"{time.monotonic() - self.began:5.1f} s  {line}")


async def run_demo(folder: Path, rate: float) -> None:
    """Play the demo, and print it.

    Args:
        folder: empty.
        rate: bytes a second from the release server.

    Raises:
        Failure, OSError: a step failed.
    """
    body = files("omaha_mirror.cli").joinpath("data", "update.gz").read_bytes()
    release = DemoRelease(PATH, body, rate)
    async with AsyncExitStack() as stack:
        upstream = Listener(release)
        (there,) = await upstream.start(ANYWHERE)
        stack.push_async_callback(upstream.stop)
        service = Service(_config(folder, f"http://{there}"))
        await service.start()
        stack.push_async_callback(service.close)
        listener = Listener(PublicApp(service.decisions, service.packages, service.observer))
        (here,) = await listener.start(ANYWHERE)
        stack.push_async_callback(listener.stop)
        session = await stack.enter_async_context(connections())
        site = Site(release, f"http://{here}", folder, session, time.monotonic())
        site.say(
            f"A release server far away, on a line of {decimal(int(rate))}/s, has {NEW}"
            f" ({decimal(len(body))}). The mirror, {site.mirror}, has nothing yet."
        )
        await _herd(site)
        async for warmth in service.warm_up.warm("stable", "amd64-usr"):
            if warmth.error:
                raise Failure(warmth.error)
        times = "once" if release.downloads == 1 else f"{release.downloads} times"
        site.say(
            f"The release server was asked for the package {times}, and the mirror has it now."
        )
        await Actor("C", site).update()
        site.say("Now the release server is switched off.")
        await upstream.stop()
        await Actor("D", site).update()
        await Actor("E", site, version=NEW).update()
    _sum_up(release, service.observer.totals.served)


def _config(folder: Path, upstream: str) -> Config:
    return Config(
        cache=CacheConfig(directory=folder / "cache", min_free=0, hold_back=HOLD_BACK),
        state_directory=folder / "state",
        tracks={"stable": Follow()},
        upstream=UpstreamConfig(release_url=upstream, omaha_url=f"{upstream}{OMAHA}"),
    )


async def _herd(site: Site) -> None:
    """The first machine causes the download, and a second one joins it."""
    first, second = Actor("A", site), Actor("B", site)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(first.update())
            await first.halfway.wait()
            await second.update()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


class Actor(Watch):
    """One machine of the demo, which watches its own download.

    Attributes:
        halfway: set when it has half of the package.
    """

    def __init__(self, name: str, site: Site, version: str = OLD) -> None:
        self.halfway = asyncio.Event()
        self._name = f"Machine {name}"
        self._site = site
        self._version = version
        self._size = 0
        self._folder = site.folder / name
        machine = Machine(version=version, machineid=uuid.uuid4().hex)
        self._agent = Agent(machine, f"{site.mirror}/v1/update/", site.session, self)

    async def update(self) -> None:
        """Ask for an update, and install it. Raises Failure."""
        self._folder.mkdir()
        try:
            outcome = (await self._agent.ask()).outcome
            if isinstance(outcome, Offer):
                self._say(f"runs {self._version} and asks: it is offered {outcome.version}.")
                await self._agent.update(outcome, self._folder)
            elif self._version == NEW:
                self._say(f"runs {NEW} already and asks: there is no update for it.")
            else:
                raise Failure(f"{self._name} got no offer")
        except UpdateFailed as error:
            raise Failure(f"{self._name}: {error}") from error

    def began(self, name: str, size: int, cache_status: str) -> None:  # noqa: ARG002 (a port's method)
        """Print whether the package is a hit, a collapsed request or a miss."""
        self._size = size
        if cache_status.endswith("hit"):
            self._say("is served from the mirror's disk; nothing is fetched for it.")
            return
        sent = f"the release server has sent {decimal(self._site.release.sent)} of {decimal(size)}"
        if cache_status.endswith("collapsed"):
            self._say(f"joins that download, it starts no other one: {sent}.")
        else:
            self._say(f"has its first bytes while {sent}.")

    def received(self, count: int) -> None:
        """Set `halfway` when half of the package arrived."""
        if 2 * count >= self._size:
            self.halfway.set()

    def ended(self, downloaded: Downloaded) -> None:
        """Print that the package is downloaded."""
        self._say(f"has all of it after {downloaded.seconds:.2f} s, and the SHA-256 is right.")

    def _say(self, line: str) -> None:
        self._site.say(f"{self._name} {line}")


def _sum_up(release: DemoRelease, served: int) -> None:
    saved = served - release.sent
    table = Table(show_header=False)
    table.add_row("fetched from the release server", decimal(release.sent))
    table.add_row("served to machines", decimal(served))
    table.add_row("saved on the line", f"{decimal(saved)} ({saved / served:.0%})")
    Console().print(table)
    click.echo(NEXT)
