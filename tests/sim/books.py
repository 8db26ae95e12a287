"""The books of a run: what clients asked for and got, what operators did, and when; invariants are held against them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

NEVER = float("inf")


class Invariant(StrEnum):
    """What must hold whatever happens; each problem of a run begins with one of these."""

    WHOLE = "no success with wrong bytes"
    RANGE = "no range ends with a byte that was not proven"
    AS_ASKED = "a range is answered as it was asked"
    ABORT = "no client aborts"
    POLICY = "an answer never contradicts policy"
    OFFER = "what is offered is what upstream has"
    ENDS = "every client that goes on trying ends"
    FETCHED = "bytes fetched are bound"
    LOST = "no event is lost"
    TWICE = "no event is counted twice"
    WOKEN = "who can go on is woken"
    KEPT = "nothing wrong is kept"
    LEFT = "nothing is left"
    LOOP = "nothing waits for a disk on the loop"
    DEFECT = "no part of the mirror fails"


@dataclass(slots=True)
class Transfer:
    """One answer with bytes of a package.

    Attributes:
        who: asked.
        path: of the package.
        range: as it was asked for; empty: the whole.
        began, ended: in seconds from the beginning.
        status: of HTTP; 0 where no head came.
        first: where its bytes belong.
        announced: its Content-Length.
        got: how many came.
        wrong: where the first wrong one is; None where all are right.
        entity: of the whole package, as Content-Range tells it.
    """

    who: str
    path: str
    range: str
    began: float
    ended: float = NEVER
    status: int = 0
    first: int = 0
    announced: int = 0
    got: int = 0
    wrong: int | None = None
    entity: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it ended with success."""
        return self.status in (200, 206) and self.got >= self.announced


@dataclass(slots=True)
class Check:
    """An update check that was answered: `offered` is a version, or None."""

    who: str
    track: str
    version: str
    asked: float
    answered: float
    offered: str | None
    codebase: str = ""


@dataclass(slots=True)
class Told:
    """An event that a machine reported; `answered` is when the mirror took it, NEVER if it did not."""

    who: str
    machineid: str
    track: str
    event: tuple[int, int, int]
    asked: float
    answered: float = NEVER


@dataclass(slots=True)
class Ruled:
    """An operator gave a track a rule: `hold`, `pin VERSION` or `release`; the answer came, or never did."""

    track: str
    rule: str
    asked: float
    answered: float = NEVER
    refused: bool = False


@dataclass(slots=True)
class Proven:
    """A mirror has found a package right that it fetched; `key` is its digest in hex."""

    mirror: int
    key: str
    at: float


@dataclass(slots=True)
class Published:
    """Upstream leads a track to a version from then on."""

    track: str
    version: str
    at: float


@dataclass(slots=True)
class Life:
    """Of a mirror: `how` it ended, empty while it runs."""

    mirror: int
    began: float
    ended: float = NEVER
    how: Literal["", "kill", "power", "stop"] = ""


@dataclass(slots=True)
class Ended:
    """How a client's work ended: `done`, `held` by policy, or what it gave up with; `wrong` says what is wrong with its bytes."""

    who: str
    at: float
    word: str
    wrong: str = ""


@dataclass(slots=True)
class Books:
    """All of it, each list in the order of the times."""

    transfers: list[Transfer] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ruled: list[Ruled] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    proven: list[Proven] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What the models themselves saw go wrong."""

    def rules(self, track: str, configured: str, since: float, until: float) -> Iterator[str]:
        """Every rule that may have been in force for a track at some time in [since, until].

        One that was asked for may be in force from then on; it is for sure once it was answered, until another is asked for.
        """
        sure, maybe = configured, list[str]()
        for ruled in self.ruled:
            if ruled.track != track or ruled.refused or ruled.asked > until:
                continue
            rule = configured if ruled.rule == "release" else ruled.rule
            if ruled.answered <= since:
                sure, maybe = rule, []
            else:
                maybe.append(rule)
        yield sure
        yield from maybe
