"""Update checks: how many a second, and what each costs; nginx with a constant answer is the floor."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.asking import ask
from benchmarks.scene import Scene, scene
from benchmarks.servers import Server, mirror, nginx
from benchmarks.table import middle, show
from tests.support.mirror import omaha
from tests.support.talk import request

VERSION = "4000.0.0"
CLIENTS = 64
SECONDS = 2.5
ROUNDS = 3
BODY = omaha("request_check_first")
KINDS = {
    "kept": request("POST", "/v1/update/", {}, BODY),
    "one each": request("POST", "/v1/update/", {"Connection": "close"}, BODY),
}


@dataclass(frozen=True, slots=True)
class Round:
    """Answers a second, and the server's CPU seconds for each."""

    rate: float
    cpu: float


async def main() -> None:
    async with scene() as here, AsyncExitStack() as stack:
        here.publish(VERSION, 1000)
        ours = await stack.enter_async_context(
            mirror(here.directory, here.origin.origin, [VERSION])
        )
        offer = (await ours.ask("POST", "/v1/update/", BODY)).body.decode()
        if VERSION not in offer:
            raise RuntimeError(f"no offer: {offer}")
        peer = nginx(here.directory, f"default_type text/xml; return 200 '{offer}';")
        servers = [await stack.enter_async_context(peer), ours] if peer is not None else [ours]
        rounds: dict[tuple[str, str], list[Round]] = {}
        for _ in range(ROUNDS):
            for kind, message in KINDS.items():
                for server in servers:
                    row = await _measure(here, server, message)
                    rounds.setdefault((kind, server.name), []).append(row)
    rows = [
        (
            kind,
            name,
            f"{middle(own, lambda r: r.rate):.0f}",
            f"{middle(own, lambda r: r.cpu) * 1e6:.0f}",
            f"{middle(own, lambda r: r.cpu) / middle(rounds[kind, servers[0].name], lambda r: r.cpu):.1f}",
        )
        for (kind, name), own in rounds.items()
    ]
    head = ("connections", "server", "checks/s", "CPU us per check", f"/ {servers[0].name}")
    show(f"Update checks: {CLIENTS} clients, {ROUNDS} rounds in turns", head, rows)


async def _measure(here: Scene, server: Server, message: bytes) -> Round:
    cpu = server.cpu()
    [answers] = await here.clients.run([partial(ask, server.port, message, CLIENTS, SECONDS)])
    return Round(answers / SECONDS, (server.cpu() - cpu) / answers)


if __name__ == "__main__":
    asyncio.run(main())
