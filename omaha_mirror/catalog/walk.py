"""A walk: learning where a track leads by asking upstream as a machine that takes every update at once.

It starts as 0.0.0 to learn all steps, or as a known version to learn what is new, and goes on as each version that it
is given. A Nebraska grants one step at a time and counts those that are open:

- It answers `noupdate` once when the granted step is reached (nebraska/backend/pkg/api/updates.go:98-140). So such an
  answer is questioned once, and two in a row are the end.
- Nothing that was given is left open: the last question of a walk is always asked as the last version given.

No I/O and no clock. What cuts a walk short leaves it as it is: it goes on with the same question later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omaha_mirror.catalog.upstream_answer import OfferedRelease, UpstreamPolicy, UpstreamReading
from omaha_mirror.omaha import Version

NOTHING = "0.0.0"
"""The version below all others."""
MAX_STEPS = 32


@dataclass(slots=True)
class Walk:
    """One walk. Ask as `asks`, `tell` the answer, and go on for as long as that says so.

    Attributes:
        known: the version it starts from; None walks from the beginning.
        asks: the version to ask as next.
        given: the steps it was led through so far, oldest first.
        policy: of the last answer; None before the first.
        detail: what upstream or the walk says about it, for people.
        ended: whether all is learnt. A walk that stopped without it can go on later.
        pending: whether something was given and upstream does not know yet that it was reached.
    """

    known: str | None = None
    asks: str = field(init=False)
    given: list[OfferedRelease] = field(default_factory=list)
    policy: UpstreamPolicy | None = None
    detail: str = ""
    ended: bool = False
    pending: bool = False
    _noupdates: int = 0

    def __post_init__(self) -> None:
        self.asks = self.known or NOTHING

    @property
    def steps(self) -> dict[str, bool]:
        """The versions given, and whether each is a floor: the server led through all but the last."""
        last = len(self.given) - 1
        return {o.release.version: o.floor or i < last for i, o in enumerate(self.given)}

    def tell(self, told: UpstreamReading) -> bool:
        """Take in an answer to the question as `asks`. Whether to ask on now."""
        full = len(self.given) >= MAX_STEPS
        at = Version.parse(self.asks)
        newer = [
            offered for offered in told.releases if Version.parse(offered.release.version) > at
        ]
        self.policy, self.detail = told.policy, told.detail
        self.pending = bool(newer) and not full
        self._noupdates = self._noupdates + 1 if told.policy is UpstreamPolicy.NO_UPDATE else 0
        match told.policy:
            case UpstreamPolicy.BUSY:
                return False
            case UpstreamPolicy.WITHDRAWN:
                self.ended = True
            case UpstreamPolicy.NO_UPDATE:
                self.ended = full or self._noupdates == 2
                if self.known or self.given:
                    self.detail = ""
            case UpstreamPolicy.OFFERS if full:
                self.ended = True
                self.detail = (
                    f"there are more than {MAX_STEPS} steps; those after {self.asks} are left out"
                )
            case UpstreamPolicy.OFFERS if not newer:
                self.ended = True
                names = ", ".join(offered.release.version for offered in told.releases)
                self.detail = f"{names} was offered to a machine with {self.asks}, and is ignored"
            case UpstreamPolicy.OFFERS:
                self.given += newer
                self.asks = newer[-1].release.version
        return not self.ended
