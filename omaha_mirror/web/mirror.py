"""What the public listener needs of the service behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from omaha_mirror.cache import Reader
from omaha_mirror.catalog import Decision, PackageFile
from omaha_mirror.omaha import AppRequest


class Mirror(Protocol):
    """Decides what machines are told, and has the bytes."""

    @property
    def public_url(self) -> str | None:
        """`scheme://host[:port]` that machines reach the mirror by; None: whatever they used."""

    async def decide(self, app: AppRequest) -> Decision:
        """What to tell a machine. Never raises for what a machine or an upstream says."""

    def package(self, release: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""

    async def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server."""

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether such a path got other bytes within a day."""

    def read(self, file: PackageFile, start: int, stop: int) -> AbstractContextManager[Reader]:
        """Read [start, stop) of a package. Raises CacheError, OSError."""

    def served(self, count: int) -> None:
        """Told how many bytes of a package went to a machine."""
