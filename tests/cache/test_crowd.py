"""Many readers at once."""

import asyncio
import random

import pytest

from omaha_mirror.cache import Limits, cursors
from omaha_mirror.cache.errors import CacheError, GenerationEnded, ResumeUnsafe
from omaha_mirror.cache.events import FillEnded, Outcome
from tests.cache.conftest import MakeSite
from tests.cache.site import Site, step
from tests.cache.source import CHUNK, Gate, ScriptedSource

SIZE = 1024 * 1024


class Crowd:
    """Readers of random ranges that come, leave and are cancelled while random gates open."""

    def __init__(self, site: Site, source: ScriptedSource, rng: random.Random) -> None:
        self.site, self.source, self.rng = site, source, rng
        self.completed = self.cancelled = 0

    async def reader(self) -> None:
        size = len(self.source.data)
        start = self.rng.choice([0, 0, self.rng.randrange(size)])
        stop = self.rng.choice([size, min(size, start + self.rng.randrange(1, size))])
        with self.site.cache.read(self.source.expected, self.source, start, stop) as reader:
            parts = []
            while data := await step(reader):
                parts.append(data)
                if self.rng.random() < 0.2:
                    await asyncio.sleep(0)
        assert b"".join(parts) == self.source.data[start:stop]
        self.completed += 1

    async def run(self, count: int, gates: list[Gate]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for _ in range(count):
            tasks.append(asyncio.create_task(self.reader()))
            if self.rng.random() < 0.3:
                victim = self.rng.choice(tasks)
                self.cancelled += victim.cancel()
            if gates and self.rng.random() < 0.3:
                gates.pop(self.rng.randrange(len(gates))).open()
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
        for gate in gates:
            gate.open()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome


@pytest.mark.parametrize("seed", range(6))
async def test_a_crowd_gets_the_right_bytes(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """200 readers, random ranges, cancellations, gates, drops: what completes is right, and nothing is left over."""
    rng = random.Random(seed)
    if seed % 2:  # a short reach makes many connections
        monkeypatch.setattr(cursors, "NEAR_AT_LEAST", CHUNK)
        monkeypatch.setattr(cursors, "NEAR_AT_MOST", CHUNK)
    source = ScriptedSource(rng.randbytes(2 * SIZE))
    source.chunk = rng.choice([CHUNK, 50_000, 100_003])
    site = await make_site(
        limits=Limits(
            max_connections=rng.randint(1, 4),
            pending=rng.choice([CHUNK, SIZE]),
            record_bytes=SIZE,
            record_seconds=0.01,
        )
    )
    gates = [source.gate(rng.randrange(2 * SIZE)) for _ in range(12)]
    source.drops.update(rng.randrange(2 * SIZE) for _ in range(5))
    crowd = Crowd(site, source, rng)
    await crowd.run(200, gates)
    assert crowd.completed + crowd.cancelled >= 200
    assert crowd.completed > 0
    ended = await site.event(FillEnded)
    assert (ended.outcome, site.all(FillEnded)[1:]) == (Outcome.PROVEN, [])
    assert ended.fetched == 2 * SIZE, "each byte once"
    assert source.most_connected <= 4
    assert source.connected == 0


async def test_a_crowd_survives_a_wrong_round(site: Site) -> None:
    """Who is cut or spoilt begins again at 0, and gets right bytes; no ranged reader gets any of either round."""
    rng = random.Random(7)
    good = rng.randbytes(SIZE)
    source = ScriptedSource(good)
    expected = source.expected
    source.data = good[:-1] + bytes([good[-1] ^ 1])
    last = source.gate(SIZE - 1)
    again: list[type[CacheError]] = []

    async def client(start: int) -> bytes:
        try:
            return await site.read(source, start, SIZE, expected)
        except (GenerationEnded, ResumeUnsafe) as error:
            again.append(type(error))
            return await site.read(source, 0, SIZE, expected)

    starts = [0] * 10 + [rng.randrange(SIZE) for _ in range(40)]
    tasks = [asyncio.create_task(client(start)) for start in starts]
    await last.reached.wait()
    with site.cache.read(expected, source, 0, SIZE) as somebody:
        assert await step(somebody), "has left"
    source.data = good
    last.open()
    assert await asyncio.gather(*tasks) == [good] * 50
    assert len(again) == 50
    await site.event(FillEnded, 2)
