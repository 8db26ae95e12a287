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
        hashable: the whole digest may swallow them. Where some are wrong all the same, it begins anew.
        judged: have a digest of their own, and are right by it; no range is completed by them.
        wrong: must be fetched again.
        more: whether there is more to examine already.
        covered: where a range may lie that ends before the blob does, to get any byte before the whole is proven.
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
        self, filled: Intervals, read: Read, capacity: int | None, awaited: Sequence[int] = ()
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
        """What was wrong was taken back: other bytes will come. Where some of it was taken, all is taken anew."""

    def take(self, data: bytes) -> None:
        """The hashable bytes, in order, as the whole digest swallows them."""

    def head(self) -> Head | None:
        """All was taken: the first bytes, where no digest inside the blob covers them."""

    def suspects(self) -> tuple[Span, ...]:
        """The whole digest is wrong: the bytes that no other digest covers; they will be dropped.

        Nothing, where there is no such hope.
        """

    def conclude(self, read: Read | None) -> str:
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

    def head_size(self, size: int, read: Read) -> int:
        """How many bytes the head of a blob of this size has; 0 where it has none. Raises OSError."""

    def head(self, size: int, read: Read) -> Head | None:
        """The head of a blob that is all right. Raises OSError."""

    def accepts(self, signed_by: str) -> bool:
        """Whether a blob that was proven to be signed by this one is right under the terms."""

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None) -> Prover:
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
        self,
        filled: Intervals,
        read: Read,  # noqa: ARG002 - no byte tells
        capacity: int | None,  # noqa: ARG002
        awaited: Sequence[int] = (),  # noqa: ARG002
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

    def conclude(self, read: Read | None) -> str:  # noqa: ARG002
        """See the port: there is none."""
        return ""


class HoldBacks:
    """Nothing is asked but the digest."""

    terms = ""

    def head_size(self, size: int, read: Read) -> int:  # noqa: ARG002
        """See the port: there is none."""
        return 0

    def head(self, size: int, read: Read) -> Head | None:  # noqa: ARG002
        """See the port: there is none."""
        return None

    def accepts(self, signed_by: str) -> bool:  # noqa: ARG002 - any will do
        """Any will do."""
        return True

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None) -> Prover:  # noqa: ARG002
        """See `Provers`."""
        return HoldBack(expected.size, hold_back)
