"""Port: which bytes of an unproven blob may be sent, and which are wrong and must be fetched again.

A blob is proven by the digest of all its bytes, when the last one is there. A prover that understands the format of a blob
decides earlier: it releases bytes as soon as a digest inside the blob proves them, and has wrong ones fetched again before
they are sent. `HoldBack` understands no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from omaha_mirror.cache.blob import Expected, Head
from omaha_mirror.cache.intervals import NOTHING, Intervals

Span = tuple[int, int]
"""Bytes [start, stop)."""
Read = Callable[[int, int], bytes]
"""Gives up to `count` bytes at `offset`. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a prover decides about the filled bytes.

    Attributes:
        released: may be sent.
        completable: may be the last ones of a range before the blob is proven.
        hashable: may go into the digest of the whole. Where some turn out wrong, it begins anew.
        judged: are right by a digest inside the blob; may not be the last ones of a range.
        wrong: must be fetched again.
        more: whether filled bytes wait to be examined.
        covered: a range that ends before the blob does is served from an unproven blob only if it lies in these.
        proven: are right whatever the rest turns out to be: a range may end with them at once.
    """

    released: Intervals
    completable: Intervals
    hashable: Intervals
    judged: Intervals = NOTHING
    wrong: tuple[Span, ...] = ()
    more: bool = False
    covered: Intervals = NOTHING
    proven: Intervals = NOTHING


class Prover(Protocol):
    """Judges the bytes of one fill. One call at a time; `needs` and `dropped` are called on the event loop, and do not block."""

    def examine(
        self, filled: Intervals, read: Read, capacity: int | None, awaited: Sequence[int] = (), /
    ) -> Ruling:
        """Judge the bytes that can be judged now.

        Args:
            filled: the bytes that are there; only those that were dropped are removed from it.
            read: reads them.
            capacity: bytes that are kept at a time, where the oldest are discarded: no more arrive before some are
                hashable. None where all are kept.
            awaited: offsets that readers wait for: the bytes there are judged first.

        Raises:
            OSError: reading failed.
        """

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """What must be filled so that [start, stop) can be released. May be called while another call runs."""

    def dropped(self, start: int, stop: int) -> None:
        """[start, stop) was wrong and will be fetched again. If `take` was given some of it, `take` begins again at 0."""

    def take(self, data: bytes) -> None:
        """Take the next bytes in order; the digest of the whole has them already."""

    def head(self) -> Head | None:
        """The `Head` of the blob; None where it has none. Called after the last `take`."""

    def suspects(self) -> tuple[Span, ...]:
        """The bytes to fetch again where the digest of the whole is wrong: those that no digest inside the blob covers.

        Empty where all bytes are as suspect.
        """

    def conclude(self, read: Read | None, /) -> str:
        """The id of the key that signed the blob, "" where no signature is required. Called when the digest of the whole is right.

        Args:
            read: reads all of it; None where its first bytes were discarded.

        Raises:
            Untrusted: the blob must not be served.
            OSError: reading failed.
        """


class Provers(Protocol):
    """Makes a prover for each fill, and knows what is required of a blob besides its digest. Does not block."""

    @property
    def terms(self) -> str:
        """What is required of a blob besides its digest, as a text that changes with it."""

    def head_size(self, size: int, read: Read, /) -> int:
        """The size of the `Head` of a blob of this size, in bytes; 0 where it has none. Raises OSError."""

    def head(self, size: int, read: Read, /) -> Head | None:
        """The `Head` of a proven blob; None where it has none. Raises OSError."""

    def accepts(self, signed_by: str, /) -> bool:
        """Whether a blob that this key signed ("": no key) meets the terms."""

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None, /) -> Prover:
        """A prover.

        Args:
            expected: size and digests that the blob must have.
            hold_back: bytes at the end that are not sent before the blob is proven, unless a digest inside it proves them.
            head: known from an earlier proof of the same blob.
        """


class HoldBack:
    """Releases all but the end: no client completes a blob before its digest is known to be right.

    A range that ends before the blob does is served: a client that asks for one checks its bytes, or waits for the whole.
    """

    def __init__(self, size: int, hold_back: int) -> None:
        if hold_back < 1:
            raise ValueError("at least the last byte must be held back")
        self.edge = max(0, size - hold_back)
        self._all = Intervals([(0, size)])

    def examine(
        self, filled: Intervals, _read: Read, _capacity: int | None, _awaited: Sequence[int] = ()
    ) -> Ruling:
        """Releases all that is filled before the held-back end."""
        return Ruling(filled.clip(0, self.edge), filled, filled, covered=self._all)

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """See `Prover.needs`: these bytes alone."""
        return ((start, stop),)

    def dropped(self, start: int, stop: int) -> None:
        """See `Prover.dropped`: no byte ever is."""

    def take(self, data: bytes) -> None:
        """See `Prover.take`: the digest of the whole is enough."""

    def head(self) -> Head | None:
        """See the port: it has none."""
        return None

    def suspects(self) -> tuple[Span, ...]:
        """See `Prover.suspects`: any byte may be wrong."""
        return ()

    def conclude(self, _read: Read | None) -> str:
        """See the port: it has none."""
        return ""


class HoldBacks:
    """Requires nothing but the digest."""

    terms = ""

    def head_size(self, _size: int, _read: Read) -> int:
        """See the port: it has none."""
        return 0

    def head(self, _size: int, _read: Read) -> Head | None:
        """See the port: it has none."""
        return None

    def accepts(self, _signed_by: str) -> bool:
        """See `Provers.accepts`: any key is right, and none."""
        return True

    def __call__(self, expected: Expected, hold_back: int, _head: Head | None = None) -> Prover:
        """See `Provers`."""
        return HoldBack(expected.size, hold_back)
