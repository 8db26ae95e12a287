"""What to ask upstream about one version, when, and what an answer changes. No I/O and no clock.

Names of packages that upstream is known to have, and the operator's, are looked up with the version, each time. Those
that only a machine sent may be made up: each is looked up once, alone, and few are remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from omaha_mirror.catalog.model import LookupResult, Release, began
from omaha_mirror.catalog.question_turns import FEW, surplus
from omaha_mirror.reasons import Reason

FRESH = 3600.0
"""Seconds that a good answer of upstream is believed."""
RETRY = 30.0
"""Seconds to the first try after one that upstream did not answer, or not with a release."""
LONGEST_RETRY = 600.0
"""Seconds to which that grows, and that upstream is believed to have no such file."""
MAX_NAMES = 64
"""Names that machines make us look up for one version, and those of which we remember that there are none."""


@dataclass(slots=True)
class Absent:
    """A name of which upstream has no file, or could not say: who sent it, and when it may be asked about again."""

    client: str
    again: float


@dataclass(slots=True)
class Lookup:
    """What is known of one version, and what is still to be asked. Times are by the clock's `boottime`.

    Attributes:
        known: the last answer that counts; None before the first.
        names: extra packages to look up with it.
        asked: those of them that were looked up last time.
        pending: names that machines sent and nobody looked up yet, oldest first, and who sent them.
        absent: names that upstream has not, the one that was wanted longest ago first.
        again: when to ask anew although no name is new.
        failures: how many answers in a row were none.
        turns: those that were given for the pending names.
        used: when it was last asked for.
        said: the trouble that was last said.
        own: those of the names that the operator wants.
        replaced: whether upstream told of another release since it was last looked up, or may have it at another address
            since the last start: who can wait does so.
    """

    known: LookupResult | None = None
    names: set[str] = field(default_factory=set)
    asked: frozenset[str] = frozenset()
    pending: dict[str, str] = field(default_factory=dict)
    absent: dict[str, Absent] = field(default_factory=dict)
    again: float = 0.0
    failures: int = 0
    turns: int = 0
    used: float = 0.0
    said: str = ""
    own: set[str] = field(default_factory=set)
    replaced: bool = False

    def want(
        self,
        own: Iterable[str],
        sure: Iterable[str],
        machine: Iterable[str] = (),
        *,
        client: str = "",
        now: float = 0.0,
    ) -> bool:
        """Add names; gives whether one is new of those that are looked up with the version.

        Args:
            own: the operator's.
            sure: those that upstream is known to have, of some version.
            machine: those that a machine sent. Where there is no room, who sent most gives up the oldest.
            client: the address it was sent from.
            now: what time it is.
        """
        before = len(self.names)
        self.own.update(own)
        self.names.update(self.own, sure)
        for name in sorted({*machine} - self.names):
            absent = self.absent.pop(name, None)
            if absent is not None:
                self.absent[name] = absent
            if absent is None or now >= absent.again:
                self.pending.pop(name, None)
                self.pending[name] = client
                if len(self.pending) > MAX_NAMES:
                    del self.pending[surplus(self.pending)]
        return len(self.names) > before

    def due(self, now: float) -> bool:
        """Whether to ask now: the last answer is old, or a name was not looked up, and has its turn."""
        turn = self.pending and self.turns > 0
        more = turn or not self.names <= self.asked
        return now >= self.again or bool(more and self._has_release)

    @property
    def queues(self) -> bool:
        """Whether a name needs a turn."""
        return bool(self.pending) and not self.turns and self._has_release

    @property
    def new(self) -> set[str]:
        """Names that are to be looked up with the version, and were not yet."""
        return self.names - self.asked

    @property
    def had(self) -> set[str]:
        """Those of the names that the release has."""
        release = self.known.release if self.known is not None else None
        return set() if release is None else self.names & {file.name for file in release.files}

    @property
    def next(self) -> str:
        """Of the names that machines sent: the newest of who sent fewest. Raises ValueError: there is none."""
        clients = list(self.pending.values())
        newest_first = reversed(self.pending)
        return min(newest_first, key=lambda name: clients.count(self.pending[name]))

    def waits(self, needed: frozenset[str]) -> bool:
        """Whether one of these names waits for its turn."""
        return not needed.isdisjoint(self.pending)

    def crowded(self, client: str) -> bool:
        """Whether one client sent many names of which upstream is not known to have any."""
        senders = [*self.pending.values(), *(absent.client for absent in self.absent.values())]
        return senders.count(client) > FEW

    def undecided(self, needed: frozenset[str], own: Iterable[str] = ()) -> bool:
        """Whether a machine that needs these packages, `own` of them by its rule, must wait for an answer."""
        known = self.known
        if known is None or self.replaced:
            return True
        return known.release is not None and bool(known.unasked(needed, own))

    def after(self, found: LookupResult) -> LookupResult:
        """What is known once upstream said this; of names that it was not asked about that stays known which was."""
        rest = self.absent.keys() - found.looked_up
        lacking = self.known.lacking if self.known is not None else {}
        kept = {name: lacking[name] for name in rest if name in lacking}
        whole = replace(found, looked_up=found.looked_up | rest, lacking={**kept, **found.lacking})
        return settled(self.known, whole)

    def record(
        self,
        known: LookupResult,
        found: LookupResult,
        names: Iterable[str],
        now: float,
        *,
        anew: bool,
    ) -> None:
        """Take in what upstream said.

        An answer without trouble is believed for an hour; after any other it is asked soon, and then less often.

        Args:
            known: what is known by it; see `after`.
            found: what it said.
            names: those that it was asked about.
            now: what time it is.
            anew: whether it was asked about the version too.
        """
        self.known = known
        self.replaced = self.replaced and not anew
        for name in names if found.release is not None else ():
            client = self.pending.pop(name, "")
            if known.release is not None and known.release.file(name) is not None:
                self.names.add(name)
                self.absent.pop(name, None)
            elif name not in self.names:
                wait = RETRY if name in found.lacking else LONGEST_RETRY
                self.absent[name] = Absent(client, now + wait)
        if found.release is not None:
            self.asked |= frozenset(names)
        self._make_room()
        trouble = self._trouble(found)
        if anew:
            self.failures = self.failures + 1 if trouble else 0
            self.again = now + (self.pause if trouble else FRESH)
        elif trouble:
            self.again = min(self.again, now + RETRY)

    @property
    def pause(self) -> float:
        """Seconds to the next try after answers that were none."""
        return min(RETRY * 2.0 ** min(max(self.failures - 1, 0), 16), LONGEST_RETRY)

    def _trouble(self, found: LookupResult) -> bool:
        """Whether something that is wanted could not be had, so that upstream may say more before long."""
        release = found.release
        if release is None or found.doubt or self.names & found.lacking.keys():
            return True
        return any(release.file(name) is None for name in self.own)

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        if self.known is not None and self.known.release is not None:
            self.known = replace(self.known, release=began(self.known.release, now))

    def restored(self, known: LookupResult | None, looked_up: Iterable[str]) -> None:
        """Take up what was known before a restart, and which names were looked up; all of it is asked anew."""
        self.known, self.replaced = known, known is not None
        for name in sorted(looked_up):
            if known is None or known.release is None or known.release.file(name) is not None:
                self.names.add(name)
            else:
                self.absent[name] = Absent("", 0.0)

    @property
    def _has_release(self) -> bool:
        return self.known is not None and self.known.release is not None

    def _make_room(self) -> None:
        while len(self.absent) > MAX_NAMES:
            name = surplus({name: absent.client for name, absent in self.absent.items()})
            del self.absent[name]
            if self.known is not None:
                lacking = {key: why for key, why in self.known.lacking.items() if key != name}
                left = self.known.looked_up - {name}
                self.known = replace(self.known, looked_up=left, lacking=lacking)


def settled(old: LookupResult | None, found: LookupResult) -> LookupResult:
    """What is known after an answer: what upstream says counts at once, its trouble takes nothing away."""
    before = old.release if old is not None else None
    if old is None or before is None:
        return found
    if found.release is None:
        return old if found.reason is Reason.UNREACHABLE else found
    release, lacking = found.release, dict(found.lacking)
    if release.payload == before.payload:
        for name in sorted(_trouble(found) & old.looked_up - old.lacking.keys()):
            package = before.file(name)
            if package is not None and release.file(name) in (None, package):
                release = _completed(release, before, name)
                del lacking[name]
    if release.id == before.id:
        release = replace(release, learnt=before.learnt)
    return replace(found, release=release, lacking=lacking)


def _trouble(found: LookupResult) -> frozenset[str]:
    """Names of packages of which upstream could not say."""
    return frozenset(found.lacking) - found.wrong


def _completed(release: Release, before: Release, name: str) -> Release:
    """The release, with a package of the one before if it has none of that name."""
    if release.file(name) is not None:
        return release
    packages = [package for package in before.manifest.packages if package.name == name]
    return release.with_packages(packages, {name: before.urls[name]})
