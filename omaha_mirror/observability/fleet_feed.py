"""The register: what machines say and get goes into the database of the fleet, and questions about it come out.

Recording waits for nothing and fails nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache.events import FillEnded
from omaha_mirror.fleet import FETCHED, Database, FleetReader, FleetRecorder, Transfer, facts_of
from omaha_mirror.observability.health import Finding, State
from omaha_mirror.observability.reports import AppReport, TransferReport


class FleetFeed:
    """Takes what the listeners report.

    Args:
        url: of the database.
        retention: seconds that history is kept.
        clock: tells the time.

    Attributes:
        recorder: writes it, and what waits for that.
        reader: answers questions about the fleet.
    """

    def __init__(self, url: str, retention: float, clock: Clock) -> None:
        self._clock = clock
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

    def on_app(self, heard: AppReport) -> None:
        """Record what a machine said, and what it was told."""
        decision = heard.decision
        release = decision.release if decision is not None else None
        for item in facts_of(
            heard.app,
            time=self._clock.time(),
            address=heard.remote,
            reason=decision.reason.value if decision is not None else "",
            offered=release.version if release is not None else None,
            detail=decision.words if decision is not None else "",
        ):
            self.recorder.put(item)

    def on_transfer_end(self, sent: TransferReport) -> None:
        """Record bytes that went to a machine."""
        folder = sent.file.url.rpartition("/")[0].rpartition("/")[2]
        self.recorder.put(
            Transfer(
                time=self._clock.time(),
                release=folder,
                name=sent.file.name,
                bytes=sent.count,
                seconds=sent.seconds,
                cache_status=sent.cache,
            )
        )

    def on_fill_end(self, event: FillEnded) -> None:
        """Record bytes that came over the line."""
        folder, _, name = event.source.rpartition("/")
        self.recorder.put(
            Transfer(
                time=self._clock.time(),
                release=folder.rpartition("/")[2],
                name=name,
                bytes=event.fetched,
                seconds=event.seconds,
                cache_status=FETCHED,
            )
        )

    def findings(self) -> Iterator[Finding]:
        """Whether the database answers; without it machines are served all the same."""
        if (trouble := self.recorder.trouble) is None:
            yield Finding("database", State.OK, f"{self._database.where} is written to")
        else:
            words = f"{self._database.where}: {trouble}; machines are served, their history waits"
            yield Finding("database", State.DEGRADED, words)
