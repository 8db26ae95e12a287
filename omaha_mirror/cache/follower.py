"""What a blob knows of those who read it."""

from __future__ import annotations

from typing import Protocol


class Follower(Protocol):
    """A reader's place, and how to tell it that it was cut.

    Attributes:
        start: where it began.
        offset: what it reads next.
        reach: where the bytes end that it was ever given.
        stop: where it ends.
        since: when it came, and
        fed: when it last got a byte, in seconds of the monotonic clock.
        is_cut: whether it was cut.
        client: who it is, as far as it takes its share of the line; "" for nobody.
    """

    start: int
    offset: int
    reach: int
    stop: int
    since: float
    fed: float
    is_cut: bool
    client: str

    def cut(self) -> None:
        """The bytes that it gets belong to an ended generation: it must not go on."""
