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
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output, as a JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def begin(directory: Path, *command: str) -> asyncio.subprocess.Process:
    """Start `omaha-mirror COMMAND` with the config of a mirror's directory."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "omaha_mirror", *command),
        *("--config", str(directory / "config.yaml")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(directory: Path, *command: str, given: bytes = b"") -> Done:
    """Run it to its end; `given` is its standard input."""
    process = await begin(directory, *command)
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(given)
    assert b"Traceback" not in err, err.decode()
    return Done(process.returncode or 0, out.decode(), err.decode())
