"""The fleet database of a running mirror: records what machines report and get, and answers questions about it.

Recording never waits and never raises.
"""

from __future__ import annotations

from collections.abc import Iterator

from omaha_mirror.aio.clock import Clock
from omaha_mirror.fleet import Database, FleetReader, FleetRecorder
from omaha_mirror.observability.health import Finding, State


class FleetFeed:
    """Owns the fleet database, its recorder and its reader.

    Args:
        url: of the database.
        retention: seconds that history is kept.
        clock: tells the time.

    Attributes:
        recorder: queues items and writes them.
        reader: answers questions about the fleet.
    """

    def __init__(self, url: str, retention: float, clock: Clock) -> None:
        self._database = Database(url)
        self.recorder = FleetRecorder(self._database, retention=retention, clock=clock)
        self.reader = FleetReader(self._database)

    def start(self) -> None:
        """Begin to write; a database that is not there yet is waited for."""
        self.recorder.start()

    async def close(self) -> None:
        """Write what waits, within a deadline."""
        await self.recorder.close()
        await self._database.close()

    def findings(self) -> Iterator[Finding]:
        """Whether the database answers; without it machines are served all the same."""
        if (trouble := self.recorder.trouble) is None:
            yield Finding("database", State.OK, f"{self._database.where} is written to")
        else:
            words = f"{self._database.where}: {trouble}; machines are served, their history waits"
            yield Finding("database", State.DEGRADED, words)
