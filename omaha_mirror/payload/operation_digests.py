"""Verifies a growing payload operation by operation, before its last byte arrives.

The manifest has the SHA-256 of each operation's data. An operation is verified when all of its bytes are written. Each
byte is hashed once, as soon as all before it in the operation are: the last byte of a large operation does not wait for
the hash of the rest. Header, manifest and signatures have no digest of their own, so they are not verified here.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omaha_mirror.payload.header import PayloadError, Read, Span
from omaha_mirror.payload.manifest import Manifest, Operation, read_metadata_if_ready

if TYPE_CHECKING:
    from hashlib import _Hash

BUDGET = 8 * 1024 * 1024
CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The operations that were verified since the last call.

    Attributes:
        good: the bytes of operations with the right digest. Each operation is reported once.
        wrong: the bytes of operations with another digest.
        more: whether more written bytes wait for their hash.
    """

    good: tuple[Span, ...] = ()
    wrong: tuple[Span, ...] = ()
    more: bool = False


@dataclass(slots=True)
class _Hashing:
    """An operation of which the first bytes are hashed."""

    position: int
    digest: _Hash = field(default_factory=hashlib.sha256)


class OperationDigests:
    """Verifies one payload while it grows. One call at a time.

    Attributes:
        manifest: None until it can be read.
        refusal: why the file is no payload that a client would accept, so nothing of it is verified; else None.

    Args:
        size: of the whole file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.manifest: Manifest | None = None
        self.refusal: PayloadError | None = None
        self._size = size
        self._waiting: list[Operation] = []
        self._hashing: dict[int, _Hashing] = {}
        self._wrong: dict[Span, Operation] = {}

    def examine(
        self,
        filled: Iterable[Span],
        read: Read,
        budget: int = BUDGET,
        awaited: Sequence[int] = (),
    ) -> Verdicts:
        """Verify the operations that can be verified now.

        Args:
            filled: the written bytes, as sorted, disjoint spans. Only bytes that were reported wrong may leave it.
            read: reads the file.
            budget: the number of bytes to hash in this call, at most.
            awaited: offsets whose operations come first, as far as they are filled; each gets a share of the budget.

        Raises:
            OSError: reading failed.
        """
        spans = tuple(filled)
        if not self._has_manifest(spans, read):
            return Verdicts()
        good: list[Span] = []
        wrong: list[Span] = []
        share = budget // (len(awaited) + 1)
        for start, stop in (*self._around(awaited, spans, share), *spans):
            at = bisect_left(self._waiting, start, key=_start)
            while at < len(self._waiting) and (operation := self._waiting[at]).start < stop:
                ready = min(operation.stop, stop)
                hashing = self._hashing.setdefault(operation.start, _Hashing(operation.start))
                limit = min(ready, hashing.position + budget)
                budget -= limit - hashing.position
                _hash(hashing, limit, read)
                if limit < ready:
                    return Verdicts(tuple(good), tuple(wrong), more=True)
                if ready < operation.stop:
                    break
                right = self._judge(at)
                (good if right else wrong).append((operation.start, operation.stop))
        return Verdicts(tuple(good), tuple(wrong))

    def _around(
        self, offsets: Iterable[int], spans: tuple[Span, ...], share: int
    ) -> Iterator[Span]:
        """The written bytes from the operations at these offsets on, at most `share` of each."""
        for offset in offsets:
            at = bisect_right(self._waiting, offset, key=_start) - 1
            if at >= 0 and offset < self._waiting[at].stop:
                begin = self._waiting[at].start
                stop = next((stop for start, stop in spans if start <= begin < stop), begin)
                yield begin, min(stop, offset + share)

    def again(self, span: Span) -> None:
        """Verify an operation again that was wrong: its bytes were dropped and are downloaded again.

        Args:
            span: of `Verdicts.wrong`.
        """
        insort(self._waiting, self._wrong.pop(span), key=_start)

    def _has_manifest(self, spans: tuple[Span, ...], read: Read) -> bool:
        if self.manifest is None and self.refusal is None and spans and spans[0][0] == 0:
            try:
                self.manifest = read_metadata_if_ready(read, spans[0][1], self._size)
            except PayloadError as error:
                self.refusal = error
            if self.manifest is not None:
                self._waiting = [o for o in self.manifest.operations if o.start < o.stop]
        return self.manifest is not None

    def _judge(self, at: int) -> bool:
        operation = self._waiting.pop(at)
        digest = self._hashing.pop(operation.start).digest.digest()
        if digest == operation.sha256:
            return True
        self._wrong[operation.start, operation.stop] = operation
        return False


def _start(operation: Operation) -> int:
    return operation.start


def _hash(hashing: _Hashing, stop: int, read: Read) -> None:
    while hashing.position < stop:
        data = read(hashing.position, min(CHUNK, stop - hashing.position))
        if not data:
            raise OSError(f"bytes that were written are missing at {hashing.position}")
        hashing.digest.update(data)
        hashing.position += len(data)
