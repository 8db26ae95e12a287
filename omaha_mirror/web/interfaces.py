"""Ports of the public listener: decisions on checks, packages, and an observer."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from omaha_mirror.cache import Reader
from omaha_mirror.cache.events import Status
from omaha_mirror.catalog import PackageFile
from omaha_mirror.observability.observers import AppReport, TransferReport
from omaha_mirror.omaha import AppRequest, Request
from omaha_mirror.policy.decide import Decision


class Decisions(Protocol):
    """Decides on checks."""

    def at_once(self, app: AppRequest, client: str = "") -> Decision | None:
        """Decide on a check where that waits for nothing, else None. Never raises, as `decide`."""

    async def decide(self, request: Request, app: AppRequest, client: str = "") -> Decision:
        """Decide on a check from an address. Never raises for what a machine or an upstream says."""

    def forward_reports(
        self, request: Request, app: AppRequest, decision: Decision | None = None
    ) -> None:
        """Queue a machine's reports for upstream, where they are to be forwarded. Never waits.

        Args:
            request: the machine's.
            app: one of its apps.
            decision: about the check of that app; None where it asks for none.
        """


class Packages(Protocol):
    """The packages that machines ask for by path."""

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


class Observer(Protocol):
    """Counts and records; never waits."""

    def on_app(self, report: AppReport) -> None:
        """The answer about one application of a request is ready."""

    def on_bytes(self, count: int, cache: Status) -> None:
        """Bytes of a package went to a machine."""

    def on_transfer_end(self, report: TransferReport) -> None:
        """An answer with bytes of a package ended."""

    def on_package_error(self, error: str) -> None:
        """A package could not be had; a label of `web.errors`."""

    def on_bad_request(self, error: str) -> None:
        """A request could not be answered as it was; a label of `web.errors`."""


class Unobserved:
    """Counts and records nothing."""

    def on_app(self, report: AppReport) -> None:
        """See `Observer`."""

    def on_bytes(self, count: int, cache: Status) -> None:
        """See `Observer`."""

    def on_transfer_end(self, report: TransferReport) -> None:
        """See `Observer`."""

    def on_package_error(self, error: str) -> None:
        """See `Observer`."""

    def on_bad_request(self, error: str) -> None:
        """See `Observer`."""
