"""Which server gave which bytes of a fill, where a digest will judge them.

The nodes of one CDN have the same file under different validators, and after a drop the next connection may reach another one.
Where an operation's digest finds the same bytes wrong twice, the node that gave them is excluded.
"""

from __future__ import annotations

from omaha_mirror.cache.errors import SourceChanged, SourceFailed
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.source import Validator

TRIES = 4
"""How many connections in a row may reach the wrong node before no other one is hoped for."""

Node = tuple[tuple[str, str], ...]


def node_of(validator: Validator) -> Node:
    """What tells one node from another: all that it says of the file but the time of its answer."""
    return tuple(sorted((name, text) for name, text in validator.items() if name != "date"))


class Nodes:
    """Of one fill."""

    def __init__(self) -> None:
        self._received: dict[Node, Intervals] = {}
        self._excluded: set[Node] = set()
        self._refused = 0

    @property
    def mixed(self) -> bool:
        """Whether bytes came from more than one."""
        return len(self._received) > 1

    def received(self, validator: Validator, start: int, stop: int) -> None:
        """Note that [start, stop) came from a node."""
        node = node_of(validator)
        if node not in self._received:
            self._received[node] = Intervals()
        if self.mixed:
            self._received = {n: given.remove(start, stop) for n, given in self._received.items()}
        self._received[node] = self._received[node].add(start, stop)

    def exclude(self, start: int, stop: int) -> None:
        """[start, stop) was wrong again: exclude the nodes that gave it, unless that would be all of them."""
        blamed = {node for node, given in self._received.items() if given.clip(start, stop)}
        if blamed < set(self._received):
            self._excluded |= blamed

    def is_excluded(self, validator: Validator) -> bool:
        """Whether the answers of a node are refused."""
        return bool(self._excluded) and node_of(validator) in self._excluded

    def require(self, name: str, validator: Validator) -> None:
        """Refuse the answer of an excluded node.

        Raises:
            SourceFailed: it is excluded; another connection may reach another node.
            SourceChanged: excluded nodes alone answered, more than `TRIES` times in a row: the file was replaced.
        """
        if not self.is_excluded(validator):
            self._refused = 0
            return
        self._refused += 1
        words = f"{name}: a node answers whose bytes were wrong twice"
        if self._refused > TRIES:
            raise SourceChanged(f"{words}, and no other one does")
        raise SourceFailed(words)
