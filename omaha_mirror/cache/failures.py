"""What is remembered of blobs that turned out wrong: rounds, cooldown, resume-unsafe, refusals.

`load` comes first. After some rounds that ended wrong a blob cools down and is not tried; after wrong bytes were sent, a client
may not resume it for a while; one that no trusted key signed is refused while the terms stay the same. `right` ends the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache.errors import DigestMismatch, GenerationEnded, Lost, Untrusted
from omaha_mirror.cache.prover import Provers
from omaha_mirror.cache.store import Refusal

ROUNDS = 3
"""Rounds that may end wrong in a row before a blob cools down."""
GROWTH = 3.0
"""How much longer the pause before a round is than the one before."""
COOLDOWN_SECONDS = 3600.0
RESUME_UNSAFE_SECONDS = 900.0
"""How long resuming is refused after wrong bytes left: a client resumes for 20 times 20 s, and 45 min later begins anew."""


@dataclass(slots=True)
class _Record:
    """Of one blob; times are of `boottime`.

    Attributes:
        rounds: how many ended wrong in a row.
        reason: why the last one did.
        cooldown_until: when it is tried again.
        resume_unsafe_until: when a client may resume it again.
        mixed: whether the wrong bytes of the last round came from several nodes.
    """

    rounds: int = 0
    reason: str = ""
    cooldown_until: float = 0.0
    resume_unsafe_until: float = 0.0
    mixed: bool = False


class Failures:
    """By the key of the blob.

    Args:
        clock: windows go by the time since its start, whatever is done to the machine's clock.

    Attributes:
        suspects: the keys that may be refused or in a cooldown.
    """

    def __init__(self, clock: Clock) -> None:
        self.suspects: set[str] = set()
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._refusals: dict[str, Refusal] = {}
        self._corrupted: set[str] = set()

    def load(self, marks: Mapping[str, float], refusals: Mapping[str, Refusal]) -> None:
        """Take over what was known before a restart: when wrong bytes of which blobs left, and which were refused."""
        self._refusals.update(refusals)
        self.suspects.update(refusals)
        now = self._clock.boottime()
        for key, when in marks.items():
            if (left := RESUME_UNSAFE_SECONDS - self._clock.age(when)) > 0:
                self._records[key] = _Record(resume_unsafe_until=now + left)

    def ended(
        self, key: str, error: GenerationEnded | Lost, *, leaked: bool, mixed: bool, checked: bool
    ) -> None:
        """A round ended wrong.

        Args:
            key: of the blob.
            error: how.
            leaked: whether bytes of it left that may be wrong.
            mixed: whether they came from several nodes.
            checked: whether the blob was here before: that it is wrong by now says nothing of where it came from.
        """
        if isinstance(error, Untrusted):
            self.refuse(key, Refusal(str(error), error.terms))
        elif checked or isinstance(error, Lost):
            if leaked:
                self.mark_resume_unsafe(key)
        else:
            mixed = mixed and isinstance(error, DigestMismatch)
            self.wrong(key, str(error), leaked=leaked, mixed=mixed)

    def wrong(self, key: str, reason: str, *, leaked: bool, mixed: bool = False) -> None:
        """A generation ended; `leaked` says that some of its bytes had left, `mixed` that they came from several nodes."""
        record = self._records.setdefault(key, _Record())
        record.rounds += 1
        record.reason = reason
        record.mixed = mixed
        if leaked:
            self.mark_resume_unsafe(key)
        if record.rounds >= ROUNDS:
            record.rounds = 0
            record.cooldown_until = self._clock.boottime() + COOLDOWN_SECONDS
            self.suspects.add(key)

    def mixed(self, key: str) -> bool:
        """Whether the last round was wrong with bytes of several nodes together, and nothing said which."""
        record = self._records.get(key)
        return record is not None and record.mixed

    def pause(self, key: str) -> float:
        """How long the next round is to wait for trouble to pass: 0, 1, or `GROWTH` times as long each time."""
        record = self._records.get(key)
        return GROWTH ** (record.rounds - 1) if record is not None and record.rounds else 0.0

    def mark_resume_unsafe(self, key: str) -> None:
        """Wrong bytes left."""
        record = self._records.setdefault(key, _Record())
        record.resume_unsafe_until = self._clock.boottime() + RESUME_UNSAFE_SECONDS

    def refuse(self, key: str, refusal: Refusal) -> None:
        """The bytes are as expected, and not to be served all the same."""
        self._refusals[key] = refusal
        self.suspects.add(key)

    def refused(self, key: str, provers: Provers) -> str | None:
        """Why the blob is not to be served under the terms there are now, or None."""
        refusal = self._refusals.get(key)
        return refusal.reason if refusal is not None and refusal.terms == provers.terms else None

    def right(self, key: str) -> None:
        """The blob was proven; a client with the head of another generation must still not get its tail."""
        record = self._records.get(key)
        if record is not None:
            record.rounds, record.cooldown_until, record.mixed = 0, 0.0, False
        self._corrupted.discard(key)
        now = self._clock.boottime()
        for old in [k for k, r in self._records.items() if _forgotten(r, now)]:
            del self._records[old]
        self.suspects &= self._refusals.keys() | self._records.keys()

    def corrupted(self, key: str) -> None:
        """A blob that was proven once is wrong, or cannot be read any more."""
        self._corrupted.add(key)

    def is_corrupted(self, key: str) -> bool:
        """Whether it is, and was not proven since."""
        return key in self._corrupted

    def cooldown(self, key: str) -> str | None:
        """Why the blob is not even tried for a while, or None."""
        record = self._records.get(key)
        held = record is not None and record.cooldown_until > self._clock.boottime()
        return record.reason if record is not None and held else None

    def is_resume_unsafe(self, key: str) -> bool:
        """Whether a client may hold the head of a generation that ended wrong."""
        record = self._records.get(key)
        return record is not None and record.resume_unsafe_until > self._clock.boottime()


def _forgotten(record: _Record, now: float) -> bool:
    return record.rounds == 0 and max(record.cooldown_until, record.resume_unsafe_until) < now
