"""A cold range: a machine resumes at 80 % of a package that is not here; then one takes the whole."""

import asyncio
from dataclasses import dataclass

from benchmarks.scene import MB, Scene, scene
from benchmarks.servers import Server, mirror, path_of
from benchmarks.table import middle, show

SIZE, RATE, START = 200 * MB, 20 * MB, 160 * MB
ROUNDS = 3
RANGE = f"Range: bytes={START}-"
FIRST = f"{RANGE}{START + MB - 1}"


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds to the first byte of the range, directly and through the mirror, and to its last one.

    The last one waits for the digest of the whole, which takes `SIZE / RATE` seconds. And the bytes fetched for all.
    """

    direct: float
    first: float
    total: float
    fetched: float


async def main() -> None:
    versions = [f"4000.0.{i}" for i in range(ROUNDS)]
    async with scene() as here:
        for version in versions:
            here.publish(version, SIZE)
        async with mirror(here.directory, here.origin.origin, versions) as ours:
            rounds = [await _measure(here, ours, version) for version in versions]
    show(
        f"Cold range: the last {(SIZE - START) // MB} of {SIZE // MB} MB at {RATE // MB} MB/s,"
        f" then the whole; {ROUNDS} rounds",
        (
            "first byte directly, ms",
            "through the mirror, ms",
            "last byte / whole directly",
            "upstream bytes / size",
        ),
        [
            (
                f"{middle(rounds, lambda r: r.direct) * 1e3:.1f}",
                f"{middle(rounds, lambda r: r.first) * 1e3:.1f}",
                f"{middle(rounds, lambda r: r.total / (SIZE / RATE)):.2f}",
                f"{middle(rounds, lambda r: r.fetched):.3f}",
            )
        ],
    )


async def _measure(here: Scene, server: Server, version: str) -> Round:
    path = path_of(version)
    here.origin.throttle(RATE)
    await here.announce(server, version)
    [direct] = await here.clients.download(here.port, path, field=FIRST)
    here.origin.log.clear()
    [part] = await here.clients.download(server.port, path, field=RANGE)
    [whole] = await here.clients.download(server.port, path)
    if (part.status, part.count, whole.count) != (206, SIZE - START, SIZE):
        raise RuntimeError(f"not what was asked for: {part}, {whole}")
    fetched = here.origin.bytes_sent(path) / SIZE
    return Round(direct.first, part.first, part.total, fetched)


if __name__ == "__main__":
    asyncio.run(main())
