"""What the public listener needs of the service behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from omaha_mirror.cache import Reader
from omaha_mirror.cache.events import Status
from omaha_mirror.catalog import PackageFile
from omaha_mirror.observability.reports import AppReport, TransferReport
from omaha_mirror.omaha import AppRequest, Request
from omaha_mirror.policy.decide import Decision


class Mirror(Protocol):
    """Decides what machines are told, and has the bytes."""

    @property
    def public_url(self) -> str | None:
        """`scheme://host[:port]` that machines reach the mirror by; None: whatever they used."""

    @property
    def fallback(self) -> bool:
        """Whether machines are told upstream's own address as well."""

    async def decide(self, request: Request, app: AppRequest, client: str) -> Decision:
        """What to tell a machine that asks from an address. Never raises for what a machine or an upstream says."""

    def on_app(self, heard: AppReport) -> None:
        """Told of each application of each request, once it can be answered; waits for nothing."""

    def package(self, release: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""

    async def layout_file(
        self, board: str, version: str, name: str, client: str
    ) -> PackageFile | None:
        """A package by its path on the release server, for a client at an address."""

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether such a path got other bytes within a day."""

    def read(
        self, file: PackageFile, start: int, stop: int, client: str = ""
    ) -> AbstractContextManager[Reader]:
        """Read [start, stop) of a package, for a client that takes its share of the line. Raises CacheError, OSError."""

    def on_bytes(self, count: int, cache: Status) -> None:
        """Told how many bytes of a package went to a machine, as they go."""

    def on_transfer_end(self, sent: TransferReport) -> None:
        """Told of each answer with bytes of a package, when it ended."""

    def failed(self, error: str) -> None:
        """Told of each package that could not be had; a label of `web.errors`."""

    def refused(self, error: str) -> None:
        """Told of each request that could not be answered as it was; a label of `web.errors`."""
