"""A schedule is run: everything in it happens in one world, and what must hold is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from omaha_mirror.cache.events import FillEnded
from omaha_mirror.config import Address, Config
from tests.sim import invariants, watch
from tests.sim.books import Books, Invariant, Life, Proven
from tests.sim.clients import Surroundings, machine
from tests.sim.fleet import Fleet, in_memory
from tests.sim.loop import Process, Stuck
from tests.sim.mirrors import PORT, Mirror
from tests.sim.mounting import begin, end, mounted
from tests.sim.operator import Operator
from tests.sim.policy import Policy
from tests.sim.schedule import (
    OMAHA,
    Act,
    Armed,
    ClockJump,
    DiskTrouble,
    End,
    Event,
    LinkTrouble,
    MachinePlan,
    Rot,
    Schedule,
)
from tests.sim.tcp import Link
from tests.sim.trouble import disk_trouble, heal, link_trouble, rot
from tests.sim.upstream import Site
from tests.sim.world import World

UPSTREAM = "10.0.0.1"
PATIENCE = 5 * 3600.0
"""Seconds after the last trouble in which every client ends."""
AFTER = 0.01
"""Seconds after the last event of a schedule: it has happened."""
SETTLED = 60.0
"""Seconds between the end of the last client and the stop of the mirrors: what is under way ends."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        story: line by line.
        problems: what must not have happened; each begins with the name of an invariant.
        steps: of the loop.
        seconds: that passed in it.
    """

    story: list[str]
    problems: list[str]
    steps: int
    seconds: float


def run(schedule: Schedule) -> Outcome:
    """Run it."""
    return _Run(schedule).outcome()


class _Run:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.world = world = World(schedule.seed)
        world.net.new_link = self._link
        self.books = Books()
        self.policy = Policy(self.books, schedule.pins)
        self.site = Site(
            schedule.releases,
            schedule.bare,
            UPSTREAM,
            self.books,
            lambda words: world.say("upstream", words),
        )
        count = 2 if schedule.settings.second else 1
        self.mirrors = [
            Mirror(
                world, number, self._config, schedule.settings.limits, self._ended, self._happened
            )
            for number in range(1, count + 1)
        ]
        self._run = invariants.Run(schedule, self.books, self.policy, self.site)
        self._upstream = Process("upstream", UPSTREAM)
        self.fleets: dict[str, Fleet] = {}
        self.operator = Operator(
            schedule.releases, self.books, lambda words: world.say("operator", words)
        )

    def outcome(self) -> Outcome:
        world = self.world
        with self._surroundings():
            try:
                world.loop.run_until_complete(self._all())
            except Stuck as error:
                world.fail(f"{Invariant.ENDS}: {error}")
            return Outcome(world.story, world.problems, world.loop.steps, world.loop.time())

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        world = self.world
        with ExitStack() as stack:
            stack.enter_context(world.running(begin, end))
            stack.enter_context(mounted(*(mirror.disk for mirror in self.mirrors)))
            stack.enter_context(in_memory(self.fleets, world.rng("fleet")))
            stack.enter_context(watch.watched(self.schedule.releases, world.fail))
            yield

    def _ended(self, mirror: Mirror, life: Life) -> None:
        """A life has ended: what it left is looked at."""
        self.books.lives.append(life)
        for problem in invariants.at_crash(self._run, mirror.disk.files()):
            self.world.fail(problem)

    def _happened(self, mirror: Mirror, event: object) -> None:
        """Something happened in a cache."""
        if isinstance(event, FillEnded) and event.outcome == "proven":
            self.books.proven.append(Proven(mirror.number, event.key, self.world.loop.time()))

    def _config(self, mirror: Mirror) -> Config:
        release_url, omaha_url = self.site.release_url, self.site.omaha_url
        if mirror.number > 1:
            release_url = f"http://{self.mirrors[0].address}:{PORT}"
            omaha_url = release_url + OMAHA
        return self.schedule.settings.config(
            mirror.place, release_url, omaha_url, self.schedule.pins
        )

    def _link(self, one: str, other: str) -> Link:
        """The line between two addresses."""
        machines = {f"10.0.2.{plan.number}": plan.link for plan in self.schedule.machines}
        plan = machines.get(other) or machines.get(one) or self.schedule.settings.link
        return Link(latency=plan.latency, rate=plan.rate, segment=plan.segment, buffer=plan.buffer)

    async def _all(self) -> None:
        world, schedule = self.world, self.schedule
        world.loop.start(self._upstream, self.site.run())
        for mirror in self.mirrors:
            await mirror.start()
        machines = [self._machine(plan) for plan in schedule.machines]
        happening = [asyncio.create_task(self._event(event)) for event in schedule.events]
        await asyncio.sleep(max(0.0, schedule.quiet + AFTER - world.loop.time()))
        if armed := [
            task
            for task, event in zip(happening, schedule.events, strict=True)
            if isinstance(event, Armed)
        ]:
            await asyncio.wait(
                armed
            )  # else one that begins with the run would be armed when all is over
        world.say("world", "all trouble is over")
        self.site.heal_all()
        heal(world, self.mirrors)
        if happening:
            await asyncio.wait(happening, timeout=PATIENCE)
        if machines:
            await asyncio.wait(machines, timeout=PATIENCE)
        await asyncio.sleep(SETTLED)
        for mirror in reversed(self.mirrors):
            await mirror.until_it_runs()
            await mirror.stop()
        self._judge()

    def _machine(self, plan: MachinePlan) -> asyncio.Task[None]:
        name, world = f"machine {plan.number}", self.world
        mirror = self.mirrors[min(plan.mirror, len(self.mirrors)) - 1]
        around = Surroundings(
            mirror=Address(mirror.address, PORT),
            releases=self.schedule.releases,
            bare=self.schedule.bare,
            books=self.books,
            policy=self.policy,
            say=lambda words: world.say(name, words),
            quiet=self.schedule.quiet,
            forgets=any(isinstance(event, DiskTrouble) for event in self.schedule.events),
        )
        process = Process(name, f"10.0.2.{plan.number}")
        return world.loop.start(process, machine(plan, around).run())

    async def _event(self, event: Event) -> None:
        await asyncio.sleep(max(0.0, event.at - self.world.loop.time()))
        first = self.mirrors[0]
        match event:
            case End():
                mirror = self.mirrors[min(event.mirror, len(self.mirrors)) - 1]
                if event.change:
                    await mirror.end_at(event.change, event.how, event.seconds)
                else:
                    await mirror.end(event.how, event.seconds)
            case LinkTrouble():
                await link_trouble(self.world, first.address, event)
            case DiskTrouble():
                await disk_trouble(self.world, first, event)
            case ClockJump():
                await self._jump(first, event)
            case Rot():
                rot(self.world, first, event)
            case Act():
                await self._act(first, event)
            case _:
                await self.world.loop.start(self._upstream, self.site.apply(event))

    async def _jump(self, mirror: Mirror, event: ClockJump) -> None:
        """The machine's clock is wrong for a while."""
        mirror.process.ahead += event.by
        self.world.say(mirror.name, f"its clock jumps by {event.by:g} s")
        await asyncio.sleep(event.seconds)
        mirror.process.ahead = 0.0
        self.world.say(mirror.name, "its clock is right again")

    async def _act(self, mirror: Mirror, event: Act) -> None:
        """The mirror does it, as on a request of its admin listener."""
        service = mirror.service
        if mirror.runs and service is not None:
            work = self.operator.apply(event, service, service.change)
            acting = self.world.loop.start(mirror.process, work)
            await asyncio.wait([acting, mirror.gone()], return_when=asyncio.FIRST_COMPLETED)

    def _judge(self) -> None:
        """Hold all invariants against the books."""
        files = {
            path: data for mirror in self.mirrors for path, data in mirror.disk.files().items()
        }
        services = [mirror.service for mirror in self.mirrors if mirror.service is not None]
        for problem in invariants.at_end(self._run, services, files):
            self.world.fail(problem)
        for mirror in self.mirrors:
            for left in mirror.left:
                self.world.fail(f"{Invariant.LEFT}: {mirror.name} has {left}")
            for call in mirror.on_loop:
                self.world.fail(f"{Invariant.LOOP}: {mirror.name} {call}")
