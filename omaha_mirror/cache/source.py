"""Port: where the bytes of a blob come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from omaha_mirror.cache.errors import SourceFailed

Validator = Mapping[str, str]
"""What identifies one generation of a file upstream. Opaque to the cache, which keeps it in its journal (JSON)."""


class Body(Protocol):
    """One answer of a source."""

    @property
    def start(self) -> int:
        """Offset of the first byte that `chunks` gives."""

    @property
    def validator(self) -> Validator:
        """The generation that these bytes belong to."""

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, in order. Raises `SourceError` when they end early or stall."""


class Source(Protocol):
    """One file upstream."""

    @property
    def name(self) -> str:
        """The URL, for people."""

    def open(
        self, start: int, stop: int, validator: Validator | None
    ) -> AbstractAsyncContextManager[Body]:
        """Ask for [start, stop) of the generation `validator` (None: whichever there is, as a digest will judge the bytes).

        Entering raises `SourceFailed`, `SourceGone`, `SourceRefused` or `SourceChanged`; leaving closes the connection.
        """

    def pause(self, attempt: int, failure: SourceFailed) -> float:
        """Seconds to wait after the `attempt`-th failure in a row (from 1)."""
