"""The open connections of a listener by client address, and which of them is closed when the limit is reached.

Below the limit an address may have any number: a site may stand behind one address, or behind a balancer. At the limit
the address with most connections loses the one that has been idle longest, else its slowest; never one whose client reads
well, and never for an address that has as many itself. Buffered bytes of unfinished requests are bounded the same way.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins in an IPv6 one."""

C = TypeVar("C", bound=Hashable)


def client_key(address: str) -> str:
    """The key that a client address is counted by: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8)) + "/64"


class _Holder(Generic[C]):
    """The connections of one address."""

    __slots__ = ("count", "held", "idle", "key", "level", "slow")

    def __init__(self, key: str) -> None:
        self.key = key
        self.count = 0
        self.held = 0
        self.idle: OrderedDict[C, float] = OrderedDict()
        self.slow: dict[C, float] = {}
        self.level = 0


class ConnectionTable(Generic[C]):
    """Connections by address, and which of them could be closed. Each change takes constant time.

    Attributes:
        held: buffered bytes of requests that are not whole or not answered, and of answers that are not read.
    """

    def __init__(self) -> None:
        self.held = 0
        self._holders: dict[str, _Holder[C]] = {}
        self._exempt = _Holder[C]("")
        self._of: dict[C, _Holder[C]] = {}
        self._held: dict[C, int] = {}
        self._giving: dict[int, dict[_Holder[C], None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[C]:
        return iter(self._of)

    def __contains__(self, connection: C) -> bool:
        return connection in self._of

    def count(self, key: str | None) -> int:
        """The number of connections of an address."""
        holder = self._holders.get(key) if key is not None else None
        return holder.count if holder is not None else 0

    def add(self, connection: C, key: str | None) -> None:
        """Add a connection, or count it for another address.

        None: it counts for no address, and is never closed to make room for others; only what it holds is bounded.
        """
        held = self._held.get(connection, 0)
        self.remove(connection)
        holder = self._exempt
        if key is not None:
            holder = self._holders.setdefault(key, _Holder(key))
        holder.count += 1
        self._sort(holder)
        self._of[connection] = holder
        if held:
            self.hold(connection, held)

    def remove(self, connection: C) -> None:
        """Remove a connection, if it is here."""
        self.drop_held(connection)
        holder = self._of.pop(connection, None)
        if holder is None:
            return
        holder.count -= 1
        holder.idle.pop(connection, None)
        holder.slow.pop(connection, None)
        self._sort(holder)
        if not holder.count and holder is not self._exempt:
            del self._holders[holder.key]

    def set_idle(self, connection: C) -> None:
        """Mark a connection as waiting for its client."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.slow.pop(connection, None)
            holder.idle[connection] = time.monotonic()
            holder.idle.move_to_end(connection)
            self._sort(holder)

    def set_busy(self, connection: C) -> None:
        """Mark a connection whose client waits for an answer, or reads it well."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.slow.pop(connection, None)
            holder.idle.pop(connection, None)
            self._sort(holder)

    def set_slow(self, connection: C, rate: float) -> None:
        """Mark a connection whose client reads too slowly: `rate` in bytes a second."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.idle.pop(connection, None)
            holder.slow[connection] = rate
            self._sort(holder)

    def most(self) -> int:
        """The highest number of connections of one address, of the addresses that have one to close."""
        return max(self._giving, default=0)

    def to_close(self, more_than: int, seconds: float = 0.0) -> C | None:
        """The connection to close; None: there is none.

        Args:
            more_than: its address must have more connections than this.
            seconds: that it must have been idle, at least.
        """
        most = self.most()
        if most <= more_than:
            return None
        holder = next(iter(self._giving[most]))
        longest = next(iter(holder.idle), None)
        if longest is not None and time.monotonic() - holder.idle[longest] >= seconds:
            return longest
        return min(holder.slow, key=holder.slow.__getitem__, default=None)

    def hold(self, connection: C, count: int) -> None:
        """Count `count` buffered bytes for a connection."""
        if connection not in self._of:
            return
        self._held[connection] = self._held.get(connection, 0) + count
        self.held += count
        self._of[connection].held += count

    def drop_held(self, connection: C) -> None:
        """Forget the buffered bytes of a connection."""
        count = self._held.pop(connection, 0)
        self.held -= count
        holder = self._of.get(connection)
        if holder is not None:
            holder.held -= count

    def heaviest(self, limit: int) -> list[C]:
        """The connections to close so that at most `limit` bytes are buffered: the oldest of the address that buffers most."""
        over, found = self.held - limit, list[C]()
        holders = [*self._holders.values(), self._exempt]
        for holder in sorted(holders, key=lambda holder: -holder.held):
            for connection in holder.idle:
                if over <= 0 or not holder.held:
                    return found
                if count := self._held.get(connection):
                    found.append(connection)
                    over -= count
        return found

    def _sort(self, holder: _Holder[C]) -> None:
        """Keep the addresses that have a connection to close, by their number of connections."""
        gives = (holder.idle or holder.slow) and holder is not self._exempt
        level = holder.count if gives else 0
        if level == holder.level:
            return
        if holder.level:
            last = self._giving[holder.level]
            del last[holder]
            if not last:
                del self._giving[holder.level]
        if level:
            self._giving.setdefault(level, {})[holder] = None
        holder.level = level
