"""Print the table of faults in Markdown: `python -m tests.faults`."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.lab import Lab, lab
from tests.faults.table import ROWS, SIZE, STATES, Log, Ran

PEERS = ("nginx proxy_cache", "nginx slice", "varnish", "squid", "apt-cacher-ng")


def told(cells: Iterable[Ran]) -> str:
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
    async with AsyncExitStack() as stack:
        labs: dict[tuple[bool, Log], Lab] = {}
        for row in ROWS:
            kind = row.hasty, row.log
            if kind not in labs:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                limit = "300ms" if row.hasty else "5s"
                made = lab(Path(folder), stall_timeout=limit, log=row.log)
                labs[kind] = await stack.enter_async_context(made)
            ran = {state: await labs[kind].run(row, state) for state in STATES}
            cells = [cell for some in ran.values() for cell in some]
            most = max(cell.fetched for cell in cells) / SIZE
            after = ", ".join(sorted({cell.after for cell in cells}))
            ours = (*map(told, ran.values()), after, f"{most:.2f}")
            show((row.name, *ours, *(peer or "-" for peer in row.peers)))


if __name__ == "__main__":
    asyncio.run(main())
