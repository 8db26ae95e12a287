"""Whose connections make room where there are as many as there can be.

Nothing is shared out while there is room: a site behind one address, or behind a balancer, may use all of it. At the
limit the address with most connections gives up its longest idle one, else its slowest; never one that is served well,
and never for an address that has as many itself. Bytes of requests that have not arrived whole are shared out likewise.
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


def share_of(address: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one."""
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
    """An address that has connections."""

    __slots__ = ("count", "held", "idle", "key", "level", "slow")

    def __init__(self, key: str) -> None:
        self.key = key
        self.count = 0
        self.held = 0
        self.idle: OrderedDict[C, float] = OrderedDict()
        self.slow: dict[C, float] = {}
        self.level = 0


class Shares(Generic[C]):
    """Who has which connections, and which of them could be given up. Each change takes constant time.

    Attributes:
        held: bytes of requests that have not arrived whole, or are not answered.
    """

    def __init__(self) -> None:
        self.held = 0
        self._holders: dict[str, _Holder[C]] = {}
        self._of: dict[C, _Holder[C] | None] = {}
        self._held: dict[C, int] = {}
        self._giving: dict[int, dict[_Holder[C], None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[C]:
        return iter(self._of)

    def __contains__(self, connection: C) -> bool:
        return connection in self._of

    def count(self, key: str | None) -> int:
        """How many connections an address has."""
        holder = self._holders.get(key) if key is not None else None
        return holder.count if holder is not None else 0

    def enter(self, connection: C, key: str | None) -> None:
        """A connection begins, or counts for another address from now on. None: for nobody, and is not given up."""
        held = self._held.get(connection, 0)
        self.leave(connection)
        holder = None
        if key is not None:
            holder = self._holders.setdefault(key, _Holder(key))
            holder.count += 1
            self._file(holder)
        self._of[connection] = holder
        if held:
            self.take(connection, held)

    def leave(self, connection: C) -> None:
        """A connection ended, if it had not before."""
        self.free(connection)
        holder = self._of.pop(connection, None)
        if holder is None:
            return
        holder.count -= 1
        holder.idle.pop(connection, None)
        holder.slow.pop(connection, None)
        self._file(holder)
        if not holder.count:
            del self._holders[holder.key]

    def idle(self, connection: C) -> None:
        """From now on the connection waits for its client."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.slow.pop(connection, None)
            holder.idle[connection] = time.monotonic()
            holder.idle.move_to_end(connection)
            self._file(holder)

    def busy(self, connection: C) -> None:
        """From now on its client waits, or reads well."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.slow.pop(connection, None)
            holder.idle.pop(connection, None)
            self._file(holder)

    def slow(self, connection: C, rate: float) -> None:
        """Its client takes its answer with so many bytes a second, which is too slow."""
        holder = self._of.get(connection)
        if holder is not None:
            holder.idle.pop(connection, None)
            holder.slow[connection] = rate
            self._file(holder)

    def most(self) -> int:
        """How many connections the address has that has most of those that could give one up."""
        return max(self._giving, default=0)

    def yields(self, more_than: int, seconds: float = 0.0) -> C | None:
        """The connection that makes room, of an address with more connections than so many; None: there is none.

        Args:
            more_than: so many.
            seconds: that one must have been idle, at least.
        """
        most = self.most()
        if most <= more_than:
            return None
        holder = next(iter(self._giving[most]))
        for connection, since in holder.idle.items():
            if time.monotonic() - since >= seconds:
                return connection
            break
        return min(holder.slow, key=holder.slow.__getitem__, default=None)

    def take(self, connection: C, count: int) -> None:
        """So many bytes of a request came."""
        if connection not in self._of:
            return
        self._held[connection] = self._held.get(connection, 0) + count
        self.held += count
        holder = self._of[connection]
        if holder is not None:
            holder.held += count

    def free(self, connection: C) -> None:
        """Nothing that came is kept any more."""
        count = self._held.pop(connection, 0)
        self.held -= count
        holder = self._of.get(connection)
        if holder is not None:
            holder.held -= count

    def too_much(self, limit: int) -> list[C]:
        """Those to give up so that at most so many bytes are held: the oldest of the address that holds most."""
        over, found = self.held - limit, list[C]()
        for holder in sorted(self._holders.values(), key=lambda holder: -holder.held):
            for connection in holder.idle:
                if over <= 0 or not holder.held:
                    return found
                if count := self._held.get(connection):
                    found.append(connection)
                    over -= count
        return found

    def _file(self, holder: _Holder[C]) -> None:
        """Keep who could give up something, by how much it has."""
        level = holder.count if holder.idle or holder.slow else 0
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
