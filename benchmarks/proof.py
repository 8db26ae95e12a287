"""What proof by operation costs on a line without faults: the first byte, the whole, and the processor's time."""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import middle, show
from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import Cache, DiskStore, Expected, Ledger, Validator
from omaha_mirror.cache.errors import SourceFailed
from omaha_mirror.cache.prover import HoldBacks, Provers
from omaha_mirror.packages.payload_prover import PayloadProvers
from omaha_mirror.payload import Key
from tests.cache.payloads import pieces, signed
from tests.payload.build import public_key

MB = 1_000_000
SIZES = (400, 1_000_000)
"""How many operations, of how many bytes: as those of a release."""
ONE = (1, 150 * MB)
"""An additional package is one operation."""
CHUNK = 128 * 1024
LINES = (125 * MB, None)
"""Bytes a second; None: as fast as memory."""
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds to the first byte and to the last, and of the processor."""

    first: float
    whole: float
    processor: float


@dataclass
class Memory:
    """A file that comes from memory, at the pace of a line; implements the cache's `Source` and `Body`."""

    data: bytes
    rate: float | None
    name: str = "memory"
    start: int = 0
    stop: int = 0

    @property
    def validator(self) -> Validator:
        """See `Body`."""
        return {"etag": '"1"'}

    @asynccontextmanager
    async def open(
        self,
        start: int,
        stop: int,
        validator: Validator | None,  # noqa: ARG002 - there is one generation
    ) -> AsyncIterator["Memory"]:
        """See `Source`."""
        yield Memory(self.data, self.rate, self.name, start, stop)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """See `Body`."""
        began = time.monotonic()
        for at in range(self.start, self.stop, CHUNK):
            due = 0.0 if self.rate is None else (at - self.start) / self.rate
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            yield self.data[at : min(at + CHUNK, self.stop)]

    def pause(self, attempt: int, failure: SourceFailed) -> float:  # noqa: ARG002 - nothing fails
        """See `Source`."""
        raise failure


async def _once(data: bytes, expected: Expected, rate: float | None, provers: Provers) -> Round:
    with tempfile.TemporaryDirectory(prefix="omaha-bench-") as folder:
        clock = Clock()
        cache = Cache(DiskStore(Path(folder), clock), Ledger(1 << 40, 0), clock, provers=provers)
        await cache.start()
        began, processor, first = time.monotonic(), time.process_time(), 0.0
        with cache.read(expected, Memory(data, rate), 0, len(data)) as reader:
            while (window := await reader.window()) is not None:
                first = first or time.monotonic() - began
                reader.advance(window.count)
        found = Round(first, time.monotonic() - began, time.process_time() - processor)
        await cache.close()
        return found


async def _measure(
    title: str, data: bytes, lines: Sequence[float | None], kinds: dict[str, Provers]
) -> None:
    expected = Expected(
        len(data), hashlib.sha256(data).digest(), hashlib.sha1(data, usedforsecurity=False).digest()
    )
    rows = []
    for rate in lines:
        rounds: dict[str, list[Round]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, provers in kinds.items():
                rounds[name].append(await _once(data, expected, rate, provers))
        plain = middle(rounds["held back"], lambda r: r.whole)
        for name, found in rounds.items():
            whole = middle(found, lambda r: r.whole)
            rows.append(
                (
                    "memory" if rate is None else f"{rate * 8 / MB:.0f} Mbit/s",
                    name,
                    f"{middle(found, lambda r: r.first) * 1e3:.1f}",
                    f"{len(data) / whole / MB:.1f}",
                    f"{plain / whole:.3f}",
                    f"{middle(found, lambda r: r.processor) / len(data) * 1e9:.2f}",
                )
            )
    head = ("line", "proof", "first byte, ms", "MB/s", "of held back", "processor, s / GB")
    show(f"{title}, {len(data) / MB:.0f} MB, median of {ROUNDS}", head, rows)


async def main() -> None:
    vendor: list[Key] = [public_key("vendor")]
    kinds: dict[str, Provers] = {
        "held back": HoldBacks(),
        "by operation": PayloadProvers(),
        "and signature": PayloadProvers(vendor),
    }
    release, package = signed(pieces(*SIZES)), signed(pieces(*ONE))
    await _measure("A payload of 400 operations", release, LINES, kinds)
    await _measure("A package of one operation", package, LINES, kinds)


if __name__ == "__main__":
    asyncio.run(main())
