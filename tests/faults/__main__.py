"""Print the table of faults in Markdown: `python -m tests.faults`."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.lab import Labs
from tests.faults.table import ROWS, SIZE, STATES, Ran

PEERS = ("nginx proxy_cache", "nginx slice", "varnish", "squid", "apt-cacher-ng")


def outcomes(cells: Iterable[Ran]) -> str:
    """How the clients of some cells ended; where on the way they were cut is left out."""
    words = Counter(word.partition(" at ")[0] for cell in cells for word in cell.words)
    if set(words) == {"ok"}:
        return "ok"
    return ", ".join(f"{count} {word}" for word, count in sorted(words.items()))


def show(cells: Iterable[str]) -> None:
    """Write a row."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


async def main() -> None:
    """Run everything, print row by row."""
    columns = ["fault upstream", *STATES, "next client", "fetched", *PEERS]
    show(columns)
    show("---" for _ in columns)
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            labs = Labs(lambda: Path(tempfile.mkdtemp(dir=directory)), stack)
            for row in ROWS:
                at = await labs.of(row)
                ran = {state: await at.run(row, state) for state in STATES}
                cells = [cell for some in ran.values() for cell in some]
                most = max(cell.fetched for cell in cells) / SIZE
                after = ", ".join(sorted({cell.after for cell in cells}))
                ours = (*map(outcomes, ran.values()), after, f"{most:.2f}")
                show((row.name, *ours, *(peer or "-" for peer in row.peers)))


if __name__ == "__main__":
    asyncio.run(main())
