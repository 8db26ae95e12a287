"""A log that a flood cannot fill: what a client can repeat at will is logged once a minute, with a count."""

from __future__ import annotations

import asyncio

import structlog

LOG = structlog.get_logger(__name__)
MINUTE = 60.0
REMEMBERED = 1000
MANY = "many addresses"
"""Logged in place of the address where there are too many."""

Kind = tuple[str, str, int]


class RateLimitedLog:
    """Logs the first of each kind at once, and after a minute how many more there were."""

    def __init__(self) -> None:
        self._more: dict[Kind, int] = {}

    def tell(
        self, event: str, remote: str, status: int, *, level: str = "info", **details: object
    ) -> int:
        """Log it, or count it; gives how often it happened within the minute.

        Args:
            event: what happened.
            remote: the address that made it happen; too many at once are logged as one.
            status: what it was answered with.
            level: a logging method's name.
            details: of the first one of its kind, ready for the log.
        """
        kind = event, remote, status
        if kind not in self._more and len(self._more) >= REMEMBERED:
            kind = event, MANY, status
        if kind in self._more:
            self._more[kind] += 1
            return 1 + self._more[kind]
        self._more[kind] = 0
        getattr(LOG, level)(event, remote=kind[1], status=status, **details)
        asyncio.get_running_loop().call_later(MINUTE, self._tell_more, kind, level)
        return 1

    def _tell_more(self, kind: Kind, level: str) -> None:
        more = self._more.pop(kind)
        if more:
            event, remote, status = kind
            getattr(LOG, level)(event, remote=remote, status=status, again=more)
