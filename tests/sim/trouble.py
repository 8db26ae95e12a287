"""What goes wrong on lines and disks of a run, and how it gets well again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.sim.disk import Fault
from tests.sim.inodes import BLOCK
from tests.sim.mirrors import Mirror
from tests.sim.schedule import DiskTrouble, LinkTrouble, Rot
from tests.sim.world import World

UPSTREAM = "10.0.0.1"
_BLOB = re.compile(r"/blobs/../[0-9a-f]{64}$")


async def link_trouble(world: World, mirror: str, event: LinkTrouble) -> None:
    """Let a line to the mirror have trouble; returns when that is over."""
    other = UPSTREAM if event.who == "upstream" else f"10.0.2.{event.who.removeprefix('machine ')}"
    link = world.net.link(mirror, other)
    world.say("world", f"the line to {event.who}: {event.how}")
    match event.how:
        case "stall":
            link.stalled = True
        case "lost":
            link.lost = True
        case "refuse":
            link.refuses = True
        case "slow":
            rate, link.rate = link.rate, event.rate
            await asyncio.sleep(event.seconds)
            link.rate = rate
            return
        case how:
            world.net.cut(mirror, other, how)
    await asyncio.sleep(event.seconds)
    link.stalled = link.lost = link.refuses = False


async def disk_trouble(world: World, mirror: Mirror, event: DiskTrouble) -> None:
    """Let a mirror's disk have trouble; returns when that is over."""
    disk = mirror.disk
    world.say(mirror.name, f"its disk: {event.kind} {event.what} {event.path}".rstrip())
    if event.kind == "full":
        disk.size = disk.used * BLOCK
    elif event.kind == "hang":
        disk.hang(world.loop.time() + event.seconds, event.path)
    else:
        kind: Any = event.kind
        disk.fail(Fault(kind, event.what, event.nth, event.times, event.path))
    await asyncio.sleep(event.seconds)
    if event.kind == "full":
        mirror.disk.size = None
    elif event.seconds and disk is mirror.disk:
        disk.heal()


def rot(world: World, mirror: Mirror, event: Rot) -> None:
    """Turn a bit of a package that is on the disk, if there is one, and nobody has verified it."""
    blobs = {path: data for path, data in mirror.disk.files().items() if _BLOB.search(path)}
    if mirror.runs or not blobs:
        return
    places = [(path, len(data)) for path, data in sorted(blobs.items()) if data]
    path, size = places[int(event.where * len(places))]
    offset = int(event.where * len(places) % 1 * size)
    world.say(mirror.name, f"byte {offset} of {Path(path).name[:8]} rots")
    mirror.disk.rot(Path(path), offset)


def heal(world: World, mirrors: Iterable[Mirror]) -> None:
    """Nothing goes wrong from now on."""
    world.net.heal()
    for mirror in mirrors:
        mirror.heal()
