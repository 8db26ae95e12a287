"""A cold herd: 50 clients at once on a package that nobody asked for before, behind a thin line."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.clients import Got
from benchmarks.scene import MB, Scene, scene
from benchmarks.servers import Server, mirror, nginx, path_of
from benchmarks.table import middle, show

CLIENTS = 50
ROUNDS = 3
LINES = ((100 * MB, 50 * MB), (24 * MB, 10 * MB))
"""Size of the package, and bytes a second of the line; the second one is short to end within a minute."""
PROXY = (
    "proxy_pass {origin}; proxy_cache packages; proxy_cache_valid 200 1h; proxy_http_version 1.1;"
    " proxy_cache_lock on; proxy_cache_lock_age 1h; proxy_cache_lock_timeout 1h;"
)
STORE = "proxy_cache_path {directory}/store keys_zone=packages:1m max_size=4g use_temp_path=off;"


@dataclass(frozen=True, slots=True)
class Round:
    """One herd: how many got all, the slowest against a direct download, and what it took."""

    whole: int
    slowest: float
    first: float
    fetched: float
    requests: int
    cpu: float


async def main() -> None:
    names = {(size, i): f"4000.{size // MB}.{i}" for size, _ in LINES for i in range(ROUNDS)}
    async with scene() as here, AsyncExitStack() as stack:
        for (size, _), version in names.items():
            here.publish(version, size)
        ours = mirror(here.directory, here.origin.origin, list(names.values()))
        store = STORE.format(directory=here.directory)
        peer = nginx(here.directory, PROXY.format(origin=here.origin.origin), http=store)
        servers = [await stack.enter_async_context(s) for s in (peer, ours) if s is not None]
        for version in names.values():
            await here.announce(ours, version)
        rows = []
        for size, rate in LINES:
            rounds: dict[str, list[Round]] = {server.name: [] for server in servers}
            for i in range(ROUNDS):
                path = path_of(names[size, i])
                here.origin.throttle(rate)
                [direct] = await here.clients.download(here.port, path)
                for server in servers:
                    herd = await _herd(here, server, path, direct)
                    rounds[server.name].append(herd)
            rows += [(f"{size // MB} MB at {rate // MB} MB/s", *row) for row in _rows(rounds)]
    head = (
        "package",
        "server",
        "whole",
        "slowest / direct",
        "first byte, ms",
        "upstream bytes / size",
    )
    show(
        f"Cold herd: {CLIENTS} clients, {ROUNDS} rounds in turns",
        (*head, "upstream requests", "CPU s/GB"),
        rows,
    )


async def _herd(here: Scene, server: Server, path: str, direct: Got) -> Round:
    here.origin.log.clear()
    cpu = server.cpu()
    found = await here.clients.download(server.port, path, count=CLIENTS)
    failed = [got for got in (direct, *found) if not got.whole or got.count != direct.count]
    if failed:
        raise RuntimeError(f"{server.name}: {len(failed)} of {CLIENTS} failed, such as {failed[0]}")
    return Round(
        whole=len(found),
        slowest=max(got.total for got in found) / direct.total,
        first=max(got.first for got in found),
        fetched=here.origin.bytes_sent(path) / direct.count,
        requests=len(here.origin.requests(path, "GET")),
        cpu=(server.cpu() - cpu) / sum(got.count for got in found),
    )


def _rows(rounds: dict[str, list[Round]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{min(r.whole for r in rows)}/{CLIENTS}",
            f"{middle(rows, lambda r: r.slowest):.3f}",
            f"{middle(rows, lambda r: r.first) * 1e3:.0f}",
            f"{middle(rows, lambda r: r.fetched):.2f}",
            f"{middle(rows, lambda r: r.requests):.0f}",
            f"{middle(rows, lambda r: r.cpu) * 1e9:.2f}",
        )
        for name, rows in rounds.items()
    ]


if __name__ == "__main__":
    asyncio.run(main())
