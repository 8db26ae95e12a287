"""Port: which filled bytes of an unproven blob may leave, which will stay, and which must be fetched again.

A blob is proven by its whole digest, when its last byte is there. A prover that can read what is in it knows more, and
earlier: it may release bytes as soon as they are known to be right, and have wrong ones taken back before they
leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from omaha_mirror.cache.blob import Expected, Head
from omaha_mirror.cache.intervals import Intervals

Span = tuple[int, int]
"""Bytes [start, stop)."""
Read = Callable[[int, int], bytes]
"""Gives up to `count` bytes at `offset`. Raises OSError."""


NOTHING = Intervals()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What holds of the bytes that are filled.

    Attributes:
        released: may leave.
        completable: a range may end with them before the whole is proven.
        hashable: the whole digest may take them. Where some are wrong all the same, it begins anew.
        judged: have a digest of their own, and are right by it; no range is completed by them.
        wrong: must be fetched again.
        more: whether there is more to examine already.
        covered: before the whole is proven, a range that ends before the blob does gets bytes only if it lies in these.
        proven: right whatever the rest turns out to be: a range may end with them at once.
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
    """Judges one fill. One call at a time; `needs` and `dropped` come from the event loop and do not block."""

    def examine(
        self, filled: Intervals, read: Read, capacity: int | None, awaited: Sequence[int] = (), /
    ) -> Ruling:
        """Judge what can be judged now.

        Args:
            filled: what is there; nothing leaves it but what was dropped.
            read: reads it.
            capacity: how many bytes are kept at a time, where the oldest are forgotten: no more come before some are
                hashable. None where all are kept.
            awaited: offsets that are waited for: what is filled there comes first.

        Raises:
            OSError: reading failed.
        """

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """What must be filled so that [start, stop) can leave. Called while another call runs, too."""

    def dropped(self, start: int, stop: int) -> None:
        """[start, stop) was wrong and will be fetched again. If `take` had some of it, `take` begins again at 0."""

    def take(self, data: bytes) -> None:
        """Look at the next bytes, in order: the whole digest has just taken them."""

    def head(self) -> Head | None:
        """The blob's first bytes that no digest inside it covers; None where there are none. Called after the last `take`."""

    def suspects(self) -> tuple[Span, ...]:
        """The bytes to fetch again where the whole digest is wrong: those that no other digest covers.

        Empty where that can mend nothing.
        """

    def conclude(self, read: Read | None, /) -> str:
        """The whole digest is right: the id of the key that signed the blob, "" where none is required.

        Args:
            read: reads all of it; None where its first bytes are forgotten.

        Raises:
            Untrusted: it is not to be served all the same.
            OSError: reading failed.
        """


class Provers(Protocol):
    """Makes a prover for each fill, and knows what a blob must be besides. Does not block."""

    @property
    def terms(self) -> str:
        """What is asked of a blob besides its digest: another text whenever that changes."""

    def head_size(self, size: int, read: Read, /) -> int:
        """How many bytes the head of a blob of this size has; 0 where it has none. Raises OSError."""

    def head(self, size: int, read: Read, /) -> Head | None:
        """The head of a blob that is all right. Raises OSError."""

    def accepts(self, signed_by: str, /) -> bool:
        """Whether a blob that was proven to be signed by this one is right under the terms."""

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None, /) -> Prover:
        """A prover.

        Args:
            expected: what the blob must become.
            hold_back: bytes at the end that wait for the proof of the whole where nothing earlier proves them.
            head: its first bytes, as they were proven once.
        """


class HoldBack:
    """Releases all but the end, so that no client completes a blob whose digest is not yet known to be right.

    A range that ends before the blob does gets its bytes: a client that asks for one checks them, or waits for the whole.
    """

    def __init__(self, size: int, hold_back: int) -> None:
        if hold_back < 1:
            raise ValueError("at least the last byte must be held back")
        self.edge = max(0, size - hold_back)
        self._all = Intervals([(0, size)])

    def examine(
        self, filled: Intervals, _read: Read, _capacity: int | None, _awaited: Sequence[int] = ()
    ) -> Ruling:
        """All that was filled before the held-back end."""
        return Ruling(filled.clip(0, self.edge), filled, filled, covered=self._all)

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """Only these bytes."""
        return ((start, stop),)

    def dropped(self, start: int, stop: int) -> None:
        """Nothing ever is."""

    def take(self, data: bytes) -> None:
        """The digest is all there is."""

    def head(self) -> Head | None:
        """See the port: there is none."""
        return None

    def suspects(self) -> tuple[Span, ...]:
        """Any byte may be wrong."""
        return ()

    def conclude(self, _read: Read | None) -> str:
        """See the port: there is none."""
        return ""


class HoldBacks:
    """Nothing is asked but the digest."""

    terms = ""

    def head_size(self, _size: int, _read: Read) -> int:
        """See the port: there is none."""
        return 0

    def head(self, _size: int, _read: Read) -> Head | None:
        """See the port: there is none."""
        return None

    def accepts(self, _signed_by: str) -> bool:
        """Any will do."""
        return True

    def __call__(self, expected: Expected, hold_back: int, _head: Head | None = None) -> Prover:
        """See `Provers`."""
        return HoldBack(expected.size, hold_back)
