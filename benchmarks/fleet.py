"""A fleet that checks in and updates: what remembering it costs, and whether the mirror can be looked at meanwhile.

`python -m benchmarks.fleet [MACHINES [SECONDS [ROUNDS]]]`: that many machines come within so many seconds, in turns to
a mirror with its fleet database and to one that records nothing. 50000 300 1 is a large site.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks.report import middle, show
from benchmarks.servers import HOST, ROOT, Server, path_of
from omaha_mirror.cli.main import cli
from omaha_mirror.config import Address
from omaha_mirror.fleet import FleetRecorder
from tests.support.mirror import VERSION, real_payload, settings
from tests.support.ports import free_port
from tests.support.talk import ask
from tests.support.upstream import Upstream

MACHINES, SECONDS, ROUNDS = 5000, 20, 3
OLD = "3510.2.0"
MIX = f"{OLD}=2,{VERSION}=8"
"""A fifth of the machines are behind. Each of those sends seven requests, and reports at one time with the others."""
LOOKED_AT = ("/", "/api/v1/machines?search=simulated-1", "/readyz")
EVERY = 10.0
"""Seconds from one look to the next; an open status page renews its parts every 2 to 30."""


@dataclass(frozen=True, slots=True)
class Round:
    """One fleet.

    Attributes:
        told: by `omaha-mirror simulate --json`.
        cpu: seconds that the mirror used for each request.
        memory: the most bytes that it had.
        looks: seconds that each look took.
        known: machines in the database.
    """

    told: dict[str, Any]
    cpu: float
    memory: int
    looks: list[float]
    known: int


async def main(machines: int, seconds: int, rounds: int) -> None:
    kinds: dict[str, list[Round]] = {"fleet database": [], "records nothing": []}
    async with Upstream() as upstream:
        upstream.put(path_of(VERSION), real_payload())
        for _ in range(rounds):
            for kind, done in kinds.items():
                with tempfile.TemporaryDirectory(prefix="omaha-bench-") as folder:
                    silent = kind == "records nothing"
                    done.append(
                        await _measure(Path(folder), upstream.origin, machines, seconds, silent)
                    )
    head = ("mirror", "requests", "p50 ms", "p95 ms", "p99 ms", "longest ms", "late ms")
    title = f"A fleet: {machines} machines within {seconds} s, {rounds} rounds in turns"
    show(
        title,
        (*head, "CPU us per request", "MB", "longest look, ms", "machines known"),
        [_row(kind, done) for kind, done in kinds.items()],
    )


async def _measure(
    folder: Path, release_url: str, machines: int, seconds: int, silent: bool
) -> Round:
    async with _mirror(folder, release_url, silent) as (server, admin):
        cpu = server.cpu()
        simulation = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "omaha_mirror", "simulate", "--quiet", "--json"),
            *("--server", f"http://{HOST}:{server.port}", "--download", "first"),
            *("--machines", str(machines), "--over", f"{seconds}s", "--version-mix", MIX),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        over = asyncio.create_task(simulation.communicate())
        looks, memory = [], 0
        while not (await asyncio.wait({over}, timeout=EVERY))[0]:
            for path in LOOKED_AT:
                began = time.monotonic()
                answer = await ask(admin, "GET", path, {"Host": str(admin)})
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer}")
                looks.append(time.monotonic() - began)
            memory = max(memory, server.memory())
        told = json.loads(over.result()[0])
        cpu = (server.cpu() - cpu) / told["requests"]
    if told["errors"]:
        raise RuntimeError(f"machines could not use their answers: {told['errors']}")
    return Round(told, cpu, memory, looks, _known(folder))


@asynccontextmanager
async def _mirror(
    folder: Path, release_url: str, silent: bool
) -> AsyncIterator[tuple[Server, Address]]:
    """A mirror as a process, and its admin listener."""
    port, admin = free_port(), Address(HOST, free_port())
    changes = {"listen": [f"{HOST}:{port}"], "admin": {"listen": [str(admin)]}}
    config = folder / "mirror.yaml"
    config.write_text(
        yaml.safe_dump(settings(folder, release_url, log={"format": "json"}, **changes))
    )
    command = (sys.executable, "-m", __spec__.name, "silent" if silent else "serve", str(config))
    with Server("omaha-mirror", command, port, folder / "mirror.log") as server:
        yield server, admin


def _known(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state" / "fleet.db")) as database:
        [[count]] = database.execute("SELECT count(*) FROM machines")
        return int(count)


def _row(kind: str, done: list[Round]) -> tuple[object, ...]:
    def latency(name: str) -> Callable[[Round], float]:
        return lambda r: r.told["latency"][name] * 1e3

    return (
        kind,
        f"{middle(done, lambda r: r.told['requests']):.0f}",
        *(f"{middle(done, latency(name)):.1f}" for name in ("p50", "p95", "p99", "max")),
        f"{middle(done, lambda r: r.told['behind']) * 1e3:.0f}",
        f"{middle(done, lambda r: r.cpu) * 1e6:.0f}",
        f"{max(r.memory for r in done) / 1e6:.0f}",
        f"{middle(done, lambda r: max(r.looks)) * 1e3:.0f}",
        f"{min(r.known for r in done)}",
    )


def serve(config: str, *, silent: bool) -> None:
    """Be a mirror; a silent one records nothing, and its tables are empty."""
    put = (lambda *_: None) if silent else FleetRecorder.put
    with patch.object(FleetRecorder, "put", put):
        cli(["serve", "--config", config])


if __name__ == "__main__":
    if sys.argv[1:2] in (["serve"], ["silent"]):
        serve(sys.argv[2], silent=sys.argv[1] == "silent")
    else:
        asyncio.run(
            main(*map(int, sys.argv[1:]), *(MACHINES, SECONDS, ROUNDS)[len(sys.argv) - 1 :])
        )
