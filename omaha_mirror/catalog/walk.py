"""A walk: finds the steps of a track by asking upstream as a machine that installs each update at once.

It starts as 0.0.0 for all steps, or as a known version for newer ones, and goes on as each offered version. Nebraska
grants one step at a time and counts the open grants:

- It answers `noupdate` once when a granted step is reached (nebraska/backend/pkg/api/updates.go:98-140). So the question
  is repeated after such an answer, and two in a row end the walk.
- No grant is left open: the last question of a walk is always asked as the last offered version.

No I/O and no clock. An interrupted walk goes on with the same question later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omaha_mirror.catalog.upstream_answer import OfferedRelease, UpstreamPolicy, UpstreamReading
from omaha_mirror.omaha import Version

NOTHING = "0.0.0"
"""The lowest version."""
MAX_STEPS = 32


@dataclass(slots=True)
class Walk:
    """One walk. Ask as the version `asks` and `take` the answer, as long as that gives True.

    Attributes:
        known: the version it starts from; None: from the beginning.
        asks: the version to ask as next.
        given: the offered steps so far, oldest first.
        policy: of the last answer; None before the first.
        detail: what is unusual about it, or upstream's words, for people.
        ended: whether the walk is complete. One that stopped before can go on later.
        pending: whether upstream does not know yet that an offered version was reached.
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
        """The offered versions, and whether each is a floor: all but the last are."""
        last = len(self.given) - 1
        return {o.release.version: o.floor or i < last for i, o in enumerate(self.given)}

    def take(self, answer: UpstreamReading) -> bool:
        """Evaluate the answer to the question as `asks`; gives whether to ask again now."""
        full = len(self.given) >= MAX_STEPS
        at = Version.parse(self.asks)
        newer = [
            offered for offered in answer.releases if Version.parse(offered.release.version) > at
        ]
        self.policy, self.detail = answer.policy, answer.detail
        self.pending = bool(newer) and not full
        self._noupdates = self._noupdates + 1 if answer.policy is UpstreamPolicy.NO_UPDATE else 0
        match answer.policy:
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
                names = ", ".join(offered.release.version for offered in answer.releases)
                self.detail = f"{names} was offered to a machine with {self.asks}, and is ignored"
            case UpstreamPolicy.OFFERS:
                self.given += newer
                self.asks = newer[-1].release.version
        return not self.ended
