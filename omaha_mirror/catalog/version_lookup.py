"""The state of one version's look-ups: what to ask upstream, when, and what an answer changes. No I/O and no clock.

Extra packages that upstream is known to have, and the operator's, are looked up with the version each time. Names that
only a machine sent may be made up: each is looked up once, alone, and few are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from omaha_mirror.catalog.model import LookupResult, Release, not_later
from omaha_mirror.catalog.question_rate_limit import FEW, surplus
from omaha_mirror.reasons import Reason

FRESH = 3600.0
"""Seconds for which a complete result stays fresh."""
RETRY = 30.0
"""Seconds from a failed look-up to the next."""
LONGEST_RETRY = 600.0
"""Upper limit of that pause as it grows, and seconds for which an absent file is not looked up again."""
MAX_NAMES = 64
"""Pending names of one version, and its absent names."""


@dataclass(slots=True)
class Absent:
    """A name without a file upstream, or unconfirmed: the client that sent it, and when it may be looked up again."""

    client: str
    again: float


@dataclass(slots=True)
class Lookup:
    """The last result of one version, and the names to look up. Times are by the clock's `boottime`.

    Attributes:
        known: the last result in force; None before the first.
        names: extra packages to look up with it.
        asked: those of them that were looked up last time.
        pending: names from machines that were not looked up yet, oldest first, and the client of each.
        absent: names without a file upstream, the least recently wanted first.
        again: time of the next look-up of the version.
        failures: number of failed look-ups in a row.
        turns: free turns for pending names.
        used: time of the last check for it.
        logged: the fault that was last logged.
        own: those of the names that the operator adds.
        replaced: whether upstream sent another release since the last look-up, or the result is from an earlier process:
            machines wait for a new one.
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
    logged: str = ""
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
            machine: those that a machine sent. Beyond the limit, the oldest of the client with the most is removed.
            client: its address.
            now: by `boottime`.
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
        """Whether to look up now: the last result is not fresh, or a name was not looked up and has its turn."""
        turn = self.pending and self.turns > 0
        more = turn or not self.names <= self.asked
        return now >= self.again or bool(more and self._has_release)

    @property
    def needs_turn(self) -> bool:
        """Whether a pending name needs a turn."""
        return bool(self.pending) and not self.turns and self._has_release

    @property
    def new(self) -> set[str]:
        """Names to look up with the version that were not looked up yet."""
        return self.names - self.asked

    @property
    def existing(self) -> set[str]:
        """The names that the release has."""
        release = self.known.release if self.known is not None else None
        return set() if release is None else self.names & {file.name for file in release.files}

    @property
    def next(self) -> str:
        """The next pending name: the newest of the client with the fewest. Raises ValueError: there is none."""
        clients = list(self.pending.values())
        newest_first = reversed(self.pending)
        return min(newest_first, key=lambda name: clients.count(self.pending[name]))

    def is_pending(self, needed: frozenset[str]) -> bool:
        """Whether one of these names is pending."""
        return not needed.isdisjoint(self.pending)

    def crowded(self, client: str) -> bool:
        """Whether a client sent many pending and absent names."""
        senders = [*self.pending.values(), *(absent.client for absent in self.absent.values())]
        return senders.count(client) > FEW

    def undecided(self, needed: frozenset[str], own: Iterable[str] = ()) -> bool:
        """Whether there is no result yet for a machine that needs these packages, `own` of them by its rule."""
        known = self.known
        if known is None or self.replaced:
            return True
        return known.release is not None and bool(known.unasked(needed, own))

    def after(self, found: LookupResult) -> LookupResult:
        """The result in force after this one, which keeps the earlier one for names that were not looked up."""
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
        """Store a result, and plan the next look-up: after `FRESH` seconds, or sooner after a failure, with growing pauses.

        Args:
            known: the result in force; see `after`.
            found: the result.
            names: the looked-up names.
            now: by `boottime`.
            anew: whether the version was looked up too.
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
        """Seconds to the next look-up after a failed one."""
        return min(RETRY * 2.0 ** min(max(self.failures - 1, 0), 16), LONGEST_RETRY)

    def _trouble(self, found: LookupResult) -> bool:
        """Whether the version or a wanted package is not available, so that it is worth to ask again soon."""
        release = found.release
        if release is None or found.doubt or self.names & found.lacking.keys():
            return True
        return any(release.file(name) is None for name in self.own)

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        if self.known is not None and self.known.release is not None:
            self.known = replace(self.known, release=not_later(self.known.release, now))

    def restored(self, known: LookupResult | None, looked_up: Iterable[str]) -> None:
        """Use the result and the names of an earlier process; all of it is looked up again."""
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
    """The result in force after a look-up: upstream's answers count at once, failures remove nothing."""
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
    """Names of packages whose look-up failed."""
    return frozenset(found.lacking) - found.wrong


def _completed(release: Release, before: Release, name: str) -> Release:
    """The release, with the earlier release's package if it has none of that name."""
    if release.file(name) is not None:
        return release
    packages = [package for package in before.manifest.packages if package.name == name]
    return release.with_packages(packages, {name: before.urls[name]})
