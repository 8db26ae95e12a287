"""Throughput and CPU of hits: clients that download a proven 256 MB package again and again."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.scene import MB, Scene, scene
from benchmarks.servers import Server, mirror, nginx, path_of
from benchmarks.table import middle, show

VERSION = "4000.0.0"
PATH = path_of(VERSION)
SIZE = 256 * MB
CLIENTS = (1, 8, 64)
ROUNDS = 3
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Round:
    """Bytes per second, and the server's CPU seconds per byte."""

    rate: float
    cpu: float


async def main() -> None:
    async with scene() as here, AsyncExitStack() as stack:
        here.keep(VERSION, here.publish(VERSION, SIZE))
        peer = nginx(here.directory, f"root {here.static};")
        ours = mirror(here.directory, here.origin.origin, [VERSION])
        servers = [await stack.enter_async_context(s) for s in (peer, ours) if s is not None]
        for server in servers:
            await _warm(here, server)
        rounds: dict[tuple[int, str], list[Round]] = {}
        for _ in range(ROUNDS):
            for count in CLIENTS:
                for server in servers:
                    row = await _measure(here, server, count)
                    rounds.setdefault((count, server.name), []).append(row)
        _report(rounds, [server.name for server in servers])


async def _warm(here: Scene, server: Server) -> None:
    [got] = await here.clients.download(server.port, PATH)
    if not got.whole:
        raise RuntimeError(f"{server.name}: {got}")


async def _measure(here: Scene, server: Server, count: int) -> Round:
    cpu, began = server.cpu(), time.monotonic()
    found = await here.clients.download(server.port, PATH, count=count, seconds=SECONDS)
    elapsed, total = time.monotonic() - began, sum(got.count for got in found)
    if any(got.status != 200 for got in found):
        raise RuntimeError(f"{server.name} failed a client")
    return Round(total / elapsed, (server.cpu() - cpu) / total)


def _report(rounds: dict[tuple[int, str], list[Round]], names: list[str]) -> None:
    rows = []
    for count in CLIENTS:
        for name in names:
            first, own = rounds[count, names[0]], rounds[count, name]
            pairs = list(zip(own, first, strict=True))
            rows.append(
                (
                    count,
                    name,
                    f"{middle(own, lambda r: r.rate) / MB:.0f}",
                    f"{middle(pairs, lambda p: p[0].rate / p[1].rate):.2f}",
                    f"{middle(own, lambda r: r.cpu) * 1e9:.3f}",
                    f"{middle(pairs, lambda p: p[0].cpu / p[1].cpu):.2f}",
                )
            )
    head = ("clients", "server", "MB/s", f"/ {names[0]}", "CPU s/GB", f"/ {names[0]}")
    show(f"Hits: {SIZE // MB} MB proven, {ROUNDS} rounds in turns", head, rows)


if __name__ == "__main__":
    asyncio.run(main())
