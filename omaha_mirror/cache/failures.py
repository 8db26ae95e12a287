"""The blobs that turned out wrong: rounds, cooldown, resume-unsafe, refusals.

`load` comes first. After some rounds that ended wrong a blob cools down: it is not fetched for a while. After wrong bytes were
sent, a client may not resume it for a while. One that no trusted key signed is refused while the terms stay the same.
`right` ends the cooldown. It owns all of these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache.blob import Head
from omaha_mirror.cache.errors import DigestMismatch, GenerationEnded, Lost, Untrusted
from omaha_mirror.cache.prover import Provers
from omaha_mirror.cache.store import Refusal

ROUNDS = 3
"""Rounds that may end wrong in a row before a blob cools down."""
GROWTH = 3.0
"""The ratio of the pause before a round to the pause before the last one."""
COOLDOWN_SECONDS = 3600.0
RESUME_UNSAFE_SECONDS = 900.0
"""How long resuming is refused after wrong bytes were sent: a client resumes for 20 times 20 s, and 45 min later begins anew."""


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
        self._heads_sent: dict[str, Head] = {}

    def load(self, marks: Mapping[str, float], refusals: Mapping[str, Refusal]) -> None:
        """Take up the records of an earlier process: when wrong bytes of a blob were sent, and which blobs were refused."""
        self._refusals.update(refusals)
        self.suspects.update(refusals)
        now = self._clock.boottime()
        for key, when in marks.items():
            if (left := RESUME_UNSAFE_SECONDS - self._clock.age(when)) > 0:
                self._records[key] = _Record(resume_unsafe_until=now + left)

    def ended(
        self, key: str, error: GenerationEnded | Lost, *, leaked: bool, mixed: bool, checked: bool
    ) -> None:
        """Note a fill that ended wrong.

        Args:
            key: of the blob.
            error: how.
            leaked: whether bytes were sent that may be wrong.
            mixed: whether the bytes came from several nodes.
            checked: whether it was a recheck: the disk spoilt the bytes, not upstream.
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
        """Count a wrong round; `leaked`: some of its bytes were sent, `mixed`: they came from several nodes."""
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
        """Whether bytes of several nodes together were wrong in the last round, and no digest showed which."""
        record = self._records.get(key)
        return record is not None and record.mixed

    def pause(self, key: str) -> float:
        """The pause before the next round, as a factor: 0, 1, then `GROWTH` times as long each time."""
        record = self._records.get(key)
        return GROWTH ** (record.rounds - 1) if record is not None and record.rounds else 0.0

    def mark_resume_unsafe(self, key: str) -> None:
        """Note that wrong bytes were sent, or some that nobody can judge any more."""
        record = self._records.setdefault(key, _Record())
        record.resume_unsafe_until = self._clock.boottime() + RESUME_UNSAFE_SECONDS

    def sent_head(self, key: str, head: Head) -> None:
        """Note the head that is sent of a blob before it is proven."""
        self._heads_sent[key] = head

    def has_sent_another(self, key: str, head: Head) -> bool:
        """Whether clients got another head than this one, so that none may resume for a while."""
        is_other = self._heads_sent.get(key, head) != head
        if is_other:
            self.mark_resume_unsafe(key)
        return is_other

    def refuse(self, key: str, refusal: Refusal) -> None:
        """Note why a blob must not be served although its digest is right."""
        self._refusals[key] = refusal
        self.suspects.add(key)

    def refused(self, key: str, provers: Provers) -> str | None:
        """Why the blob must not be served under the present terms, or None."""
        refusal = self._refusals.get(key)
        return refusal.reason if refusal is not None and refusal.terms == provers.terms else None

    def right(self, key: str) -> None:
        """End the cooldown of a blob that was proven; that it is resume-unsafe stays, as clients may hold wrong bytes."""
        record = self._records.get(key)
        if record is not None:
            record.rounds, record.cooldown_until, record.mixed = 0, 0.0, False
        self._corrupted.discard(key)
        self._heads_sent.pop(key, None)
        now = self._clock.boottime()
        for old in [k for k, r in self._records.items() if _forgotten(r, now)]:
            del self._records[old]
        self.suspects &= self._refusals.keys() | self._records.keys()

    def corrupted(self, key: str) -> None:
        """Note that a proven blob is wrong, or cannot be read any more."""
        self._corrupted.add(key)

    def is_corrupted(self, key: str) -> bool:
        """Whether a blob was noted as corrupted and not proven since."""
        return key in self._corrupted

    def cooldown(self, key: str) -> str | None:
        """Why the blob is not fetched at present, or None."""
        record = self._records.get(key)
        held = record is not None and record.cooldown_until > self._clock.boottime()
        return record.reason if record is not None and held else None

    def is_resume_unsafe(self, key: str) -> bool:
        """Whether a client that resumes may hold wrong bytes of the blob."""
        record = self._records.get(key)
        return record is not None and record.resume_unsafe_until > self._clock.boottime()


def _forgotten(record: _Record, now: float) -> bool:
    return record.rounds == 0 and max(record.cooldown_until, record.resume_unsafe_until) < now
