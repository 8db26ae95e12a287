"""A mirror of a run: its lives, one after the other, over what the disk kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from omaha_mirror.cache.events import Event
from omaha_mirror.config import Address, Config
from omaha_mirror.service import Service
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener
from tests.sim.books import Life
from tests.sim.disk import Disk
from tests.sim.loop import Process
from tests.sim.world import World

STOP = 27.0
"""Seconds after which a stop is over (see `omaha_mirror.cli.serve`)."""
AGAIN = 5.0
"""Seconds until a mirror that could not start is started again."""
PORT = 8080
NEVER = 1 << 60
"""A change of a disk that does not come."""
How = Literal["kill", "power", "stop"]


class Mirror:
    """See above.

    Args:
        world: that it is in.
        number: of it, from 1 on.
        config: makes its config.
        limits: of its cache, by name.
        ended: told of each life that has ended.

    Attributes:
        address: of its machine.
        process: of the life under way, or of the last one.
        service: of that life; None before it is made.
        disk: as it is now.
        place: where its disk is mounted.
        left: what an orderly end left behind.
        on_loop: the calls that waited for the disk on the event loop.
    """

    def __init__(
        self,
        world: World,
        number: int,
        config: Callable[[Mirror], Config],
        limits: Mapping[str, float],
        ended: Callable[[Mirror, Life], None],
        happened: Callable[[Mirror, object], None],
    ) -> None:
        self.name = "mirror" if number == 1 else f"mirror {number}"
        self.number, self.address = number, f"10.0.1.{number}"
        self.place = Path("/sim" if number == 1 else f"/sim{number}")
        seed = f"{world.seed} {self.name}"
        self.disk = Disk(self.place, seed, world.wall, world.loop.time)
        self.service: Service | None = None
        self.process = Process(self.name, self.address)
        self.process.alive = False
        self.left: list[str] = []
        self.on_loop: list[str] = []
        self._armed: asyncio.Task[bool] | None = None
        self._world, self._config, self._limits, self._ended = world, config, limits, ended
        self._happened = happened
        self._lives, self._since = 0, 0.0
        self._listener: Listener | None = None
        self._began = asyncio.Event()
        self._gone = asyncio.Event()
        self._how: How = "kill"
        self._ends = False

    @property
    def runs(self) -> bool:
        """Whether it has started and has not ended."""
        return self.process.alive and self._began.is_set()

    async def start(self) -> None:
        """Start it, again and again until it runs."""
        world = self._world
        while True:
            before = self.process
            self.process = process = Process(self.name, self.address)
            process.ahead, process.boots = before.ahead, before.boots
            self._gone.clear()
            self._lives, self._since = self._lives + 1, world.loop.time()
            world.say(self.name, "starts")
            starting = world.loop.start(process, self._start())
            gone = self.gone()
            await asyncio.wait([starting, gone], return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if starting.done() and process.alive:
                if (error := starting.exception()) is None:
                    self.disk.strict = True
                    self._began.set()
                    return
                if not isinstance(error, OSError):
                    world.defect(f"cannot start: {type(error).__name__} {error}")
                world.say(self.name, f"cannot start: {error}")
                self._over("kill")
            await asyncio.sleep(AGAIN)

    async def _start(self) -> None:
        world = self._world
        self.service = service = Service(
            self._config(self), world.clock(self.process), world.rng(self.name)
        )
        hook = service.cache._hook

        def both(event: Event) -> None:
            self._happened(self, event)
            hook(event)

        service.cache._hook = both
        limits: Any = self._limits
        service.cache.limits = replace(service.cache.limits, **limits)
        app = PublicApp(service.decisions, service.packages, service.observer)
        self._listener = listener = Listener(app, limit=1000)
        await service.start()
        await listener.start([Address(self.address, PORT)])

    async def end(self, how: How, down: float) -> None:
        """End it, if it runs, and start it again after so many seconds."""
        if not self.runs or self._ends:
            return
        self._ends = True
        if how == "stop":
            await self.stop()
        else:
            self._over(how)
        await asyncio.sleep(down)
        self._ends = False
        await self.start()

    async def end_at(self, change: int, how: How, down: float) -> None:
        """The same before the n-th change of its disk from now on."""
        if not self.runs or self._ends:
            return
        self._ends, self._how = True, how
        self.disk.died = lambda: self._world.loop.after_step.append(self._died)
        self.disk.end_at(change)
        self._armed = self.gone()
        await asyncio.wait([self._armed])
        if not self.process.alive:
            await asyncio.sleep(down)
            await self.start()
        self._ends, self._how = False, "kill"

    def gone(self) -> asyncio.Task[bool]:
        """Done when this life has ended."""
        return asyncio.ensure_future(self._gone.wait())

    async def until_it_runs(self) -> None:
        """Return when it has started, and nothing is about to end it."""
        while self._ends or not self._began.is_set():  # noqa: ASYNC110 - it may end and start again meanwhile
            await asyncio.sleep(1.0)

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self.disk.heal()
        self.disk.size = None
        self.process.ahead = 0.0
        if self._armed is not None and self.process.alive:
            self.disk.end_at(NEVER)
            self._armed.cancel()

    async def stop(self) -> None:
        """Stop it in order, as far as that takes no longer than it may."""
        world, process = self._world, self.process
        self.disk.strict = False
        self._began.clear()
        world.say(self.name, "is told to stop")
        closing = world.loop.start(process, self._close())
        gone = self.gone()
        await asyncio.wait([closing, gone], timeout=STOP, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if closing.done() and process.alive:
            if (error := closing.exception()) is not None:
                world.defect(f"cannot stop: {type(error).__name__} {error}")
            await asyncio.sleep(1.0)
            self._look_for_remains()
        if process.alive:
            self._over("stop")

    async def _close(self) -> None:
        assert self._listener is not None
        assert self.service is not None
        await self._listener.stop()
        await self.service.close()

    def _look_for_remains(self) -> None:
        """Note what an orderly end left behind."""
        tasks = sorted(
            str(getattr(task.get_coro(), "__qualname__", ""))
            for task in self._world.loop.tasks(self.process)
        )
        sockets = self._world.net.open_sockets(self.process)
        found = [f"task {name}" for name in tasks] + [
            f"file {one}" for one in self.disk.open_files()
        ]
        found += [f"{sockets} sockets"] if sockets else []
        self.left += found

    def _died(self) -> None:
        if self.process.alive:
            self._over(self._how)

    def _over(self, how: How) -> None:
        """It is gone; the disk is as the next life finds it."""
        world = self._world
        world.say(
            self.name, {"kill": "is killed", "power": "has no power", "stop": "has ended"}[how]
        )
        self._began.clear()
        self.on_loop += self.disk.on_loop
        world.loop.kill(self.process)
        self.process.boots += how == "power"
        power = world.rng(f"{self.name} {self._lives}")
        self.disk = self.disk.power_cut(power) if how == "power" else self.disk.kill()
        self._ended(self, Life(self.number, self._since, world.loop.time(), how))
        self._gone.set()
