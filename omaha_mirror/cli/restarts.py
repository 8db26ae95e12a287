"""A mirror that keeps dying waits before it starts again: a restart is quick, and a storm of them is none.

systemd before version 254 has one pause for all restarts (`RestartSec=`), so the growing one is here. The starts are
written down in a directory that outlives restarts and not a stop: see RuntimeDirectoryPreserve= in the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from omaha_mirror.aio.clock import since_boot

WINDOW = 600.0
"""Seconds in which starts count."""
QUICK = 3
"""Starts in the window that need no pause."""
LONGEST = 30.0
"""Seconds of the longest pause; less than systemd waits for a start (TimeoutStartSec=)."""
LIMIT = 4096


def pause(starts: Sequence[float], now: float) -> float:
    """Seconds to wait before a start, after starts at these times that did not end in a stop."""
    recent = sum(now - WINDOW < start <= now for start in starts)
    return 0.0 if recent < QUICK else min(LONGEST, 2.0 ** (recent - QUICK))


class Starts:
    """The starts of this service that did not end in a stop.

    Args:
        environ: with RUNTIME_DIRECTORY, where they are written down; without it there are none.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        directory = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._path = Path(directory, "starts") if directory else None

    def begin(self) -> float:
        """Write this start down; gives the seconds to wait first."""
        if self._path is None:
            return 0.0
        now, starts = since_boot(), self._read(self._path)
        kept = [start for start in starts if now - WINDOW < start <= now]
        with suppress(OSError):
            self._path.write_text("".join(f"{start}\n" for start in (*kept, now)))
        return pause(kept, now)

    def end(self) -> None:
        """The mirror was stopped: no start counts any more."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    @staticmethod
    def _read(path: Path) -> list[float]:
        """What was written down; nothing where it cannot be read."""
        try:
            with path.open("rb") as file:
                return [float(line) for line in file.read(LIMIT).splitlines()]
        except (OSError, ValueError):
            return []
