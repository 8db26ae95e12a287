"""Machines that update while somebody attacks the mirror, and while the same attack goes to a server that does nothing.

`python -m benchmarks.attack [MACHINES [SECONDS [CONNECTIONS]]]`. Both times the attacker takes its share of the cores, so
what is left between the two is what the attack costs the mirror's clients.
"""

import asyncio
import json
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import show
from benchmarks.servers import ROOT
from omaha_mirror.config import Address
from tests.e2e.site import TARGET, before
from tests.support.mirror import DATA, PAYLOAD, MirrorProcess
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

MACHINES, SECONDS, CONNECTIONS = 1000, 60, 20_000
SIZE = 1_000_000
OEM = "azure"
"""That the machines have: its package comes with the release, and is wanted under the attack of made-up ones."""
COLD = tuple(f"39{number:02}.0.0" for number in range(5))
COLD_SIZE = 20_000_000
LINE = 10_000_000
"""Bytes a second that come from upstream."""
CERTIFICATE = DATA / "tls" / "localhost.pem"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the machines.

    Attributes:
        told: how many machines were told what, and got what.
        check: seconds that checks took: `p50`, `p99`, `longest`.
        attack: what the attacker did.
        memory: most bytes of the mirror that were in memory at once.
        log: lines of the mirror.
    """

    told: dict[str, int]
    check: dict[str, float]
    attack: dict[str, int]
    memory: int
    log: list[str]


async def attacked(
    folder: Path, machines: int, seconds: float, connections: int, *, dummy: bool = False
) -> Outcome:
    """Let machines update from a mirror while it is attacked, or a server that does nothing."""
    async with Upstream() as upstream:
        nebraska = Nebraska(upstream)
        nebraska.publish(
            TARGET,
            {PAYLOAD: random.Random(0).randbytes(SIZE), f"oem-{OEM}.gz": OEM.encode() * 1000},
        )
        nebraska.group("stable", TARGET)
        for version in COLD:
            upstream.put(
                f"/amd64-usr/{version}/{PAYLOAD}", random.Random(version).randbytes(COLD_SIZE)
            )
        upstream.throttle(LINE)
        tracks = {"stable": "follow", **{f"cold-{version}": version for version in COLD}}
        tls = {"listen": ["127.0.0.1:0"], "certificate": str(CERTIFICATE)}
        config = before(nebraska, tracks=tracks, tls=tls, log={"format": "json"})
        async with MirrorProcess(folder, upstream.origin, **config) as mirror:
            secure = await mirror.logged("omaha-mirror listens on https://")
            ports = [mirror.address.port, Address.parse(secure.rpartition("/")[2].strip()).port]
            async with _victim(ports, dummy=dummy) as target:
                paths = [f"/amd64-usr/{version}/{PAYLOAD}" for version in (TARGET, *COLD)]
                attack, told = await asyncio.gather(
                    _said("benchmarks.attacker", *target, seconds, connections, *paths),
                    _said("benchmarks.machines", ports[0], machines, seconds, OEM),
                )
            return Outcome(told["told"], told["check"], attack, _peak(mirror.pid), mirror.log)


@asynccontextmanager
async def _victim(ports: list[int], *, dummy: bool) -> AsyncIterator[list[int]]:
    """The ports to attack."""
    if not dummy:
        yield ports
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.dummy", str(CERTIFICATE)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield [int(word) for word in (await process.stdout.readline()).split()]
    finally:
        process.kill()
        await process.wait()


async def _said(module: str, *arguments: object) -> Any:
    """Run a module as a process to its end; what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} failed")
    return json.loads(out)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    [kib] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kib) * 1024


async def main(machines: int, seconds: int, connections: int) -> None:
    found = {}
    for name, dummy in (("a server that does nothing", True), ("the mirror", False)):
        with tempfile.TemporaryDirectory(prefix="omaha-bench-") as folder:
            found[name] = await attacked(Path(folder), machines, seconds, connections, dummy=dummy)
    title = f"{machines} machines update within {seconds} s; {connections} hostile connections"
    head = ("attacked is", "have their package", "p50 ms", "p99 ms", "longest ms", "peak MB")
    show(
        title,
        head,
        [
            (
                name,
                outcome.told.get("has its packages", 0),
                *(f"{outcome.check[key] * 1e3:.0f}" for key in ("p50", "p99", "longest")),
                f"{outcome.memory / 1e6:.0f}",
            )
            for name, outcome in found.items()
        ],
    )
    calm, mirror = found.values()
    print(f"\nratio of the p99: {mirror.check['p99'] / calm.check['p99']:.1f}")
    print(f"the machines: {mirror.told}")
    for what in sorted(calm.attack | mirror.attack):  # both attacks are to be alike
        print(f"{what:>40} {calm.attack.get(what, 0):>8} {mirror.attack.get(what, 0):>8}")


if __name__ == "__main__":
    asyncio.run(
        main(*map(int, sys.argv[1:]), *(MACHINES, SECONDS, CONNECTIONS)[len(sys.argv) - 1 :])
    )
