"""What to ask upstream about one version, when, and what an answer changes. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from omaha_mirror.catalog.model import Known, Release, began
from omaha_mirror.catalog.reasons import Reason

FRESH = 3600.0
"""Seconds that an answer of upstream is believed, that there is no such release or package too."""
RETRY = 30.0
"""Seconds between tries while upstream cannot say."""
MAX_NAMES = 64
"""Names that machines make us look up for one version: they may send any OEM."""


@dataclass(slots=True)
class Question:
    """What is known of one version, and what is still to be asked. Times are monotonic seconds.

    Attributes:
        known: the last answer that counts; None before the first.
        names: extra packages to look up.
        asked: those that the last try looked up.
        again: when to ask again although no name is new.
        own: those of the names that the operator wants.
    """

    known: Known | None = None
    names: set[str] = field(default_factory=set)
    asked: frozenset[str] = frozenset()
    again: float = 0.0
    own: set[str] = field(default_factory=set)

    def want(self, own: Iterable[str], machine: Iterable[str], now: float) -> None:
        """Add names: the operator's `own` always, those a `machine` sent while there is room.

        Room is made, when it is time to ask again, by the names that turned out to be none: so a made-up one keeps
        no other out for longer than an answer is believed.
        """
        self.own.update(own)
        self.names.update(self.own)
        wished = self.names.union(machine)
        if len(wished) > MAX_NAMES and now >= self.again:
            self.names.intersection_update(self.own | _present(self.known))
            wished = self.names.union(machine)
        if len(wished) <= MAX_NAMES:
            self.names = wished

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        if self.known is not None and self.known.release is not None:
            self.known = replace(self.known, release=began(self.known.release, now))

    def due(self, needed: frozenset[str], now: float) -> bool:
        """Whether to ask now: the last answer is old, or did not cover a name that is wanted."""
        return now >= self.again or not self.asked >= needed & self.names

    def undecided(self, needed: frozenset[str]) -> bool:
        """Whether a machine that needs these packages must wait for an answer."""
        known = self.known
        return known is None or (known.release is not None and not needed <= known.looked_up)


def _present(known: Known | None) -> set[str]:
    if known is None or known.release is None:
        return set()
    return {*(file.name for file in known.release.files), *known.lacking}


def lasts(found: Known) -> float:
    """For how many seconds an answer is to be believed."""
    trouble = _trouble(found) or found.reason is Reason.UNREACHABLE
    return RETRY if trouble else FRESH


def settled(old: Known | None, found: Known) -> Known:
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


def _trouble(found: Known) -> frozenset[str]:
    """Names of packages of which upstream could not say."""
    return frozenset(found.lacking) - found.wrong


def _completed(release: Release, before: Release, name: str) -> Release:
    """The release, with a package of the one before if it has none of that name."""
    if release.file(name) is not None:
        return release
    packages = [package for package in before.manifest.packages if package.name == name]
    return release.with_packages(packages, {name: before.urls[name]})
