"""The state that the parts of one fill share: its blob, where the bytes came from, and what readers may have.

Plain objects without tasks of their own. Which part may change what:

- `FillState`: the cursors add bytes (`written`) and swap the draft on overflow; verification removes wrong bytes; `Fill`
  begins it, and sets how it ended.
- `Nodes`: the cursors note the node of each byte, verification excludes nodes.
- `Clearance`: verification alone writes it; `lose` empties it when the bytes cannot be read.

All of it is used on the event loop only; `filled` is immutable, so that a worker can be given it as it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from omaha_mirror.aio.workers import BLOBS
from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.errors import CacheError, Lost, SourceChanged, SourceFailed
from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.source import Source, Validator
from omaha_mirror.cache.store import Draft, Identity, Place

MIB = 1024 * 1024
WINDOW = 1.0
"""Seconds over which a rate is measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a fill, in seconds, bytes and bytes a second.

    Attributes:
        max_connections: upstream connections of one fill at once.
        patience: time without a byte after which a waiting request fails: its client gives up after 90 s
            (update_engine/libcurl_http_fetcher.cc:115).
        pending: bytes of each connection that may wait for the disk.
        record_bytes: bytes that a power cut may lose at most.
        record_seconds: time of fetching that a power cut may lose at most.
        proof_seconds: how long the last byte of a range inside an unproven blob waits for the proof.
        trickle_seconds: how long a reader waits for held-back bytes before it gets `trickle_bytes` of them.
        trickle_bytes: held-back bytes that are sent at a time; a client gives up below 10 bytes a second.
        slow_seconds: time over which the rate of a connection is measured while a reader waits.
        slow_rate: rate below which a connection is slow: a second one is opened beside it.
        contest_seconds: how long that second connection has to deliver more than the slow one.
        round_seconds: pause before a blob that turned out wrong is fetched again; each later pause is three times as long.
        spool: memory for the bytes of a blob that cannot be kept.
        lag_seconds: how long one reader of such a blob may delay the others.
    """

    max_connections: int = 4
    patience: float = 75.0
    pending: int = 4 * MIB
    record_bytes: int = 4 * MIB
    record_seconds: float = 2.0
    proof_seconds: float = 60.0
    trickle_seconds: float = 10.0
    trickle_bytes: int = 640
    slow_seconds: float = 60.0
    slow_rate: float = 32.0
    contest_seconds: float = 10.0
    round_seconds: float = 1.0
    spool: int = 64 * MIB
    lag_seconds: float = 10.0


class Rate:
    """Bytes a second, smoothed over a few windows of one second each."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self._smoothed: float | None = None

    def add(self, count: int) -> None:
        """Note `count` bytes."""
        self._roll(time.monotonic())
        self._count += count

    def per_second(self) -> float:
        """The present rate, measured from the first bytes on."""
        now = time.monotonic()
        self._roll(now)
        running = self._count / max(now - self._since, 0.05)
        return running if self._smoothed is None else self._smoothed

    def _roll(self, now: float) -> None:
        elapsed = now - self._since
        if elapsed < WINDOW:
            return
        measured = self._count / elapsed
        old = measured if self._smoothed is None else self._smoothed
        self._smoothed = (old + measured) / 2
        self._since, self._count = now, 0


TRIES = 4
"""How many connections in a row may reach a wrong node before the fetch fails."""

Node = tuple[tuple[str, str], ...]


def node_of(validator: Validator) -> Node:
    """The identity of a node: its validator of the file without the time of the answer."""
    return tuple(sorted((name, text) for name, text in validator.items() if name != "date"))


class Nodes:
    """The servers that gave the bytes of one fill, and those that are refused.

    The nodes of one CDN have the same file under different validators, and after a drop the next connection may reach another
    one. Where an operation's digest finds the same bytes wrong twice, the node that gave them is excluded.
    """

    def __init__(self) -> None:
        self._received: dict[Node, Intervals] = {}
        self._excluded: set[Node] = set()
        self._refused = 0

    @property
    def mixed(self) -> bool:
        """Whether bytes came from several nodes."""
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
        """Exclude the nodes that gave [start, stop), which was wrong again, unless that would be all of them."""
        blamed = {node for node, given in self._received.items() if given.clip(start, stop)}
        if blamed < set(self._received):
            self._excluded |= blamed

    def is_excluded(self, validator: Validator) -> bool:
        """Whether the answers of a node are refused."""
        return bool(self._excluded) and node_of(validator) in self._excluded

    def require(self, name: str, validator: Validator) -> None:
        """Refuse the answer of an excluded node.

        Raises:
            SourceFailed: it is excluded; the next connection may reach another node.
            SourceChanged: only excluded nodes answered, more than `TRIES` times in a row: the file was replaced.
        """
        if not self.is_excluded(validator):
            self._refused = 0
            return
        self._refused += 1
        words = f"{name}: a node answers whose bytes were wrong twice"
        if self._refused > TRIES:
            raise SourceChanged(f"{words}, and no other one does")
        raise SourceFailed(words)


class FillState:
    """The progress of one fill.

    Args:
        expected: size and digests that the blob must have.
        source: where the bytes come from.
        limits: bounds of the fill.
        is_recheck: whether the blob is on the disk, and is only verified again.
        was_here: whether it was proven before.
        one_generation: whether all bytes must be of one generation although a digest is known: bytes of several
            generations were wrong together, and no digest showed which.

    Attributes:
        filled: the bytes that are there.
        fetched: how many bytes came from upstream.
        last_byte_at: when the last byte arrived, or its fetch began, in monotonic seconds.
        last_failure: the last failure of a connection.
        generation: the validator of the bytes; None before the first connection.
        nodes: the servers that gave them.
        repairs: whether a recheck found wrong bytes, and fetches them again.
        leaked: whether bytes were sent that may be wrong.
        discarded_to: bytes in memory before this offset were discarded.
        proof: of the whole blob; None until it is proven.
        identity: of the committed file; None before.
        failure: why the fill ended without a proof, or why its bytes cannot be read any more.
        ended: whether the fill has ended.
    """

    def __init__(
        self,
        expected: Expected,
        source: Source,
        limits: Limits,
        *,
        is_recheck: bool = False,
        was_here: bool = False,
        one_generation: bool = False,
    ) -> None:
        self.expected = replace(expected)  # its own: a call of a worker with it is one of this fill
        self.size = expected.size
        self.source = source
        self.limits = limits
        self.is_recheck = is_recheck
        self.was_here = was_here
        self.one_generation = one_generation or not expected.has_digest
        self.current_draft: Draft | None = None
        self.filled = Intervals()
        self.fetched = 0
        self.rate = Rate()
        self.last_byte_at = time.monotonic()
        self.last_failure: SourceFailed | None = None
        self.generation: Validator | None = None
        self.nodes = Nodes()
        self.repairs = False
        self.leaked = False
        self.discarded_to = 0
        self.proof: Proof | None = None
        self.identity: Identity | None = None
        self.failure: CacheError | None = None
        self.ended = False

    @property
    def draft(self) -> Draft:
        """Where the bytes lie. No connection is opened before it is there."""
        if self.current_draft is None:
            raise RuntimeError("the fill has not begun")
        return self.current_draft

    @property
    def in_order(self) -> bool:
        """Whether bytes must be fetched in order: they pass through memory."""
        return self.current_draft is not None and self.current_draft.capacity is not None

    @property
    def is_stuck(self) -> bool:
        """Whether the disk does not answer: no reader joins."""
        return BLOBS.hang_on(self.expected) or BLOBS.hang_on(self.current_draft)

    def place(self, offset: int) -> Place:
        """Where the bytes from `offset` on lie; only released ones may be read."""
        return self.draft.place(offset)

    def bound(self, position: int, stop: int) -> int:
        """Where a cursor that has filled up to `position` must end: filled bytes, or its own `stop`."""
        return min(stop, self.filled.next_start(position, self.size))

    def written(self, start: int, stop: int) -> None:
        """[start, stop) was written."""
        self.filled = self.filled.add(start, stop)
        self.fetched += stop - start
        self.rate.add(stop - start)
        self.last_byte_at = time.monotonic()

    def discardable(self, offset: int) -> int:
        """The first byte from `offset` on that is discarded, or can be."""
        return self.draft.filled.run_end(offset)

    def was_discarded(self, offset: int) -> bool:
        """Whether the byte at `offset` arrived and was discarded."""
        return (
            self.discarded_to > 0 and self.in_order and self.discardable(offset) < self.discarded_to
        )


class Clearance:
    """What verification decided about the bytes so far; see `Ruling` for those without a word here.

    Attributes:
        released, judged, completable, covered, proven: see there.
        dropped: wrong bytes: they are fetched again even if no reader wants them.
        hashed: the number of bytes, from the first one on, that the digests have.
        lost: why the bytes cannot be read any more.
    """

    def __init__(self) -> None:
        self.released = Intervals()
        self.judged = Intervals()
        self.completable = Intervals()
        self.covered = Intervals()
        self.proven = Intervals()
        self.dropped = Intervals()
        self.hashed = 0
        self.lost: Lost | None = None

    @property
    def head(self) -> int:
        """Where what a digest inside the blob covers begins."""
        return next(iter(self.covered), (0, 0))[0]

    def is_right(self, start: int, stop: int) -> bool:
        """Whether [start, stop) is right, whatever the rest turns out to be."""
        return start >= stop or self.judged.run_end(start) >= stop

    def remove(self, start: int, stop: int) -> None:
        """Take back [start, stop), which is wrong."""
        self.released = self.released.remove(start, stop)
        self.judged = self.judged.remove(start, stop)
        self.completable = self.completable.remove(start, stop)
        self.proven = self.proven.remove(start, stop)
        self.dropped = self.dropped.add(start, stop)

    def lose(self, reason: str) -> Lost:
        """Release nothing any more: the bytes cannot be read."""
        self.lost, self.released = Lost(reason), Intervals()
        return self.lost
