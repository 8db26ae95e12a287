"""Bounds of a fill."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fill may take and how long it may try.

    Attributes:
        max_connections: upstream connections at once.
        patience: seconds without a byte after which a waiting client is let go: it gives up after 90
            (update_engine/libcurl_http_fetcher.cc:115).
        pending: bytes that may wait for the disk, for each connection.
        record_bytes: bytes, and
        record_seconds: seconds of fetching that a power cut may lose.
        proof_seconds: how long the last byte of a range inside an unproven blob waits for the proof.
        trickle_seconds: after so long without a byte, a reader at the edge of a healthy fill gets
        trickle_bytes: of what is held back: a client gives up below 10 bytes a second.
        slow_seconds: after so long, while somebody waits, a connection that delivered less than
        slow_rate: bytes a second is held against a second one, which has
        contest_seconds: to deliver more.
        round_seconds: pause before the round after one that ended wrong; before the next one three times as long.
        spool: bytes of memory through which a blob passes that cannot be kept.
        lag_seconds: how long one reader may hold up the others of such a blob.
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
