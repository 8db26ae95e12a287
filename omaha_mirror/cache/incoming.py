"""A file under `incoming/`: a blob that comes whole from elsewhere, and has no name among the proven ones yet."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.draft import give_name
from omaha_mirror.cache.store import Identity, identity
from omaha_mirror.state_file import sync


class IncomingFile:
    """See `store.Incoming`."""

    def __init__(self, data: Path, target: Path, source: str) -> None:
        self._data = data
        self._target = target
        self._source = source
        self._file = data.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """See `store.Incoming`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self) -> Identity:
        """See `store.Incoming`."""
        sync(self._file.fileno())
        found = identity(self._file)
        self._file.close()
        return found

    def commit(self, proof: Proof) -> None:
        """See `store.Incoming`."""
        give_name(self._data, self._target, proof, self._source, {})

    def discard(self) -> None:
        """See `store.Incoming`."""
        self._file.close()
        with suppress(OSError):
            self._data.unlink(missing_ok=True)
