"""What to ask upstream about one version, when, and what an answer changes. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace

from omaha_mirror.catalog.model import Known, Release
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
    """

    known: Known | None = None
    names: set[str] = field(default_factory=set)
    asked: frozenset[str] = frozenset()
    again: float = 0.0

    def want(self, own: Iterable[str], machine: Iterable[str], now: float) -> None:
        """Add names: the operator's `own` always, those a `machine` sent while there is room.

        Room is made, when it is time to ask again, by the names that turned out to be none: so a made-up one keeps
        no other out for longer than an answer is believed.
        """
        self.names.update(own)
        wished = self.names.union(machine)
        if len(wished) > MAX_NAMES and now >= self.again:
            self.names.intersection_update({*own, *_present(self.known)})
            wished = self.names.union(machine)
        if len(wished) <= MAX_NAMES:
            self.names = wished

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
    trouble = bool(found.lacking) or found.reason is Reason.UNREACHABLE
    return RETRY if trouble else FRESH


def settled(old: Known | None, found: Known) -> Known:
    """What is known after an answer: upstream's policy counts at once, its trouble takes nothing away."""
    before = old.release if old is not None else None
    if old is None or before is None or found.reason is Reason.NOT_RELEASED:
        return found
    if found.release is None:
        return old
    release, lacking = found.release, found.lacking
    if release.payload == before.payload:
        release = _completed(release, before, lacking)
        lacking = {name: why for name, why in lacking.items() if release.file(name) is None}
    if release.id == before.id:
        release = replace(release, learnt=before.learnt)
    return replace(found, release=release, lacking=lacking)


def _completed(release: Release, before: Release, lacking: Container[str]) -> Release:
    """The release with those packages of the one before that trouble alone left out."""
    lost = [package for package in before.manifest.packages if package.name in lacking]
    payload, *extras = release.manifest.packages
    packages = (payload, *sorted((*extras, *lost), key=lambda package: package.name))
    return replace(
        release,
        manifest=replace(release.manifest, packages=packages),
        urls={**release.urls, **{package.name: before.urls[package.name] for package in lost}},
    )
