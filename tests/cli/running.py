"""Commands as processes, beside a mirror that runs."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.talk import PATIENCE


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, as a JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def begin(directory: Path, name: str, *args: str) -> asyncio.subprocess.Process:
    """Start `omaha-mirror NAME` with the config of a mirror's directory."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omaha_mirror", name),
        *("--config", str(directory / "config.yaml")),
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(directory: Path, name: str, *args: str) -> Done:
    """Run it to its end."""
    process = await begin(directory, name, *args)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode or 0, out.decode(), err.decode())
