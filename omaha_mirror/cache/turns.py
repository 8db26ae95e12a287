"""Which fills may take bytes from the line now: one pure function.

There are `places`. Waiting readers come before prefetch, prefetch before repair; whoever is more urgent takes the place of
one that is less at once. Among equals a fill has its place for a slice of time at least; then the one that counts least gives
it up to one that counts more, and waits for its next turn with what it has:

1. a client, or a release, that has other fills running counts less for each of them;
2. small ones sooner: by the bytes that are still to come;
3. none waits for ever: by the time in which none of its clients had a turn, and a little by its own time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

CROWD = 10.0
"""What each other running fill of the same client, or release, costs."""
BYTES = 1_000_000
"""Bytes still to come that cost 1."""
LARGE = 30.0
"""What they cost at most."""
AGE = 2.0
"""What a second is worth in which none of its clients had a turn."""
OWN_AGE = 0.5
"""What a second is worth in which it had none itself."""
OLD = 60.0
"""Seconds of its own that count."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a fill has to say for itself.

    Attributes:
        clients: who reads it.
        release: what it is a part of.
        left: bytes that are still to come.
    """

    clients: frozenset[str] = frozenset()
    release: str = ""
    left: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a fill stands.

    Attributes:
        priority: the lower the more urgent.
        claim: see there.
        running: whether it has a place.
        seconds: since when it has it, or waits for one.
        deprived: seconds in which none of its clients had a turn, where it waits.
    """

    priority: int
    claim: Claim
    running: bool
    seconds: float
    deprived: float = 0.0


def turns(standings: Sequence[Standing], places: int, slice_seconds: float) -> set[int]:
    """The indexes of those that may run now."""
    running = {i for i, standing in enumerate(standings) if standing.running}
    before = frozenset(running)
    while waiting := [i for i in range(len(standings)) if i not in running | before]:
        best = min(waiting, key=lambda i: _rank(standings, i, running))
        if len(running) >= places:
            victim = _victim(standings, best, running & before, running, slice_seconds)
            if victim is None:
                break
            running.remove(victim)
        running.add(best)
    return running


def order(standings: Sequence[Standing]) -> list[int]:
    """The indexes of those that wait, the next one first."""
    running = {i for i, standing in enumerate(standings) if standing.running}
    waiting = [i for i in range(len(standings)) if i not in running]
    return sorted(waiting, key=lambda i: _rank(standings, i, running))


def _victim(
    standings: Sequence[Standing],
    best: int,
    candidates: Collection[int],
    running: set[int],
    slice_seconds: float,
) -> int | None:
    """Who gives its place to `best`, or None."""
    urgent = standings[best].priority
    found = [
        i
        for i in candidates
        if standings[i].priority > urgent
        or (standings[i].priority == urgent and standings[i].seconds >= slice_seconds)
    ]
    if not found:
        return None
    worst = max(found, key=lambda i: _rank(standings, i, running))
    better = _rank(standings, best, running - {worst}) < _rank(standings, worst, running)
    return worst if better else None


def _rank(standings: Sequence[Standing], i: int, running: set[int]) -> tuple[int, float]:
    """The lower the sooner."""
    standing, claim = standings[i], standings[i].claim
    others = [standings[j].claim for j in running if j != i]
    crowd = min((sum(c in other.clients for other in others) for c in claim.clients), default=0)
    crowd += sum(other.release == claim.release != "" for other in others)
    cost = CROWD * crowd + min(LARGE, claim.left / BYTES)
    if not standing.running:
        cost -= AGE * min(standing.seconds, standing.deprived)
        cost -= OWN_AGE * min(standing.seconds, OLD)
    return standing.priority, cost
