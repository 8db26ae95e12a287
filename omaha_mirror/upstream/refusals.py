"""Redirects that were not followed, as long as they stand: whoever runs the mirror has to say whether they may be."""

from __future__ import annotations

import time

KEPT = 16
"""How many files are remembered."""
SECONDS = 86400.0
"""How long one is that nobody asks for any more."""


class Refusals:
    """By the file that was asked for: the last answer about it counts."""

    def __init__(self) -> None:
        self._noted: dict[str, tuple[float, str]] = {}

    def note(self, url: str, reason: str) -> None:
        """A file's server redirects to where the mirror may not go."""
        self._noted.pop(url, None)
        self._noted[url] = time.monotonic() + SECONDS, reason
        if len(self._noted) > KEPT:
            del self._noted[next(iter(self._noted))]

    def answered(self, url: str) -> None:
        """A file was found."""
        self._noted.pop(url, None)

    def reasons(self) -> list[str]:
        """Why, for people, each once."""
        now = time.monotonic()
        return list(dict.fromkeys(reason for until, reason in self._noted.values() if until > now))
