"""Many slow readers: what each costs in memory, and how long an update check takes meanwhile."""

import asyncio
import time
import zlib
from dataclasses import dataclass, field
from statistics import median

from benchmarks.scene import Scene, scene
from benchmarks.servers import Server, mirror, nginx, path_of
from benchmarks.table import show
from tests.support.mirror import omaha

READERS = 1000
RATE = 50_000
SIZE = 1_200_000
VERSION = "4000.0.0"
PATH = path_of(VERSION)
CHECK = omaha("request_check_first")


@dataclass(slots=True)
class Watch:
    """What was seen while the readers read."""

    memory: int = 0
    answers: list[float] = field(default_factory=list)


async def main() -> None:
    async with scene() as here:
        body = here.publish(VERSION, SIZE)
        here.keep(VERSION, body)
        ours = mirror(here.directory, here.origin.origin, [VERSION])
        location = f"if ($request_method = POST) {{ return 200; }} root {here.static};"
        peer = nginx(here.directory, location)
        crc = zlib.crc32(body)
        rows = [await _measure(here, server, crc) for server in (peer, ours) if server is not None]
    show(
        f"Slow readers: {READERS} at {RATE // 1000} kB/s, {SIZE / 1e6:.1f} MB each, one round",
        (
            "server",
            "whole",
            "slowest / ideal",
            "memory per reader, kB",
            "a check meanwhile, ms",
            "slowest",
        ),
        rows,
    )


async def _measure(here: Scene, server: Server, crc: int) -> tuple[str, ...]:
    async with server:
        await here.clients.download(server.port, PATH)
        await server.ask("POST", "/v1/update/", CHECK)
        idle, watch = server.memory(), Watch()
        watching = asyncio.create_task(_watch(server, watch))
        found = await here.clients.read_slowly(server.port, PATH, count=READERS, rate=RATE)
        watching.cancel()
        await asyncio.wait([watching])
    return (
        server.name,
        f"{sum(got.whole and got.crc == crc for got in found)}/{READERS}",
        f"{max(got.total for got in found) / (SIZE / RATE):.2f}",
        f"{(watch.memory - idle) / READERS / 1000:.1f}",
        f"{median(watch.answers) * 1e3:.1f}",
        f"{max(watch.answers) * 1e3:.1f}",
    )


async def _watch(server: Server, watch: Watch) -> None:
    while True:
        began = time.monotonic()
        await server.ask("POST", "/v1/update/", CHECK)
        watch.answers.append(time.monotonic() - began)
        watch.memory = max(watch.memory, server.memory())
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
