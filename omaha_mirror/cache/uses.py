"""Who uses which blob: what is in use is neither evicted nor removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Uses:
    """By the key of the blob.

    Attributes:
        readers: how many read one.
    """

    def __init__(self) -> None:
        self.readers: Counter[str] = Counter()
        self._fetchers: Counter[str] = Counter()
        self._busy: set[str] = set()

    def is_used(self, key: str) -> bool:
        """Whether a blob is read, or kept busy."""
        return key in self.readers or key in self._busy

    def is_fetched(self, key: str) -> bool:
        """Whether somebody waits for a blob to be here, and reads none of it."""
        return key in self._fetchers

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Read a blob while this is open."""
        with _counted(self.readers, key):
            yield

    @contextmanager
    def fetching(self, key: str) -> Iterator[None]:
        """Wait for a blob to be here while this is open."""
        with _counted(self._fetchers, key):
            yield

    @contextmanager
    def busy(self, key: str) -> Iterator[None]:
        """Keep a blob while this is open."""
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)


@contextmanager
def _counted(users: Counter[str], key: str) -> Iterator[None]:
    users[key] += 1
    try:
        yield
    finally:
        users[key] -= 1
        if not users[key]:
            del users[key]
