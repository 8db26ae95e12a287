"""The catalog: which releases there are. Asked before every offer, and by every package path.

A release is settled and on disk before its first offer; another package set is another release. Both stay servable
for a week after their last use: a machine goes on with the address it was given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from omaha_mirror.catalog.learn import Wanted
from omaha_mirror.catalog.model import Known, PackageFile, Release, Rule, needed_packages
from omaha_mirror.catalog.question import RETRY, Question, lasts, settled
from omaha_mirror.catalog.state import BadState, Kept, load, save

RETENTION = 7 * 24 * 3600.0
"""Seconds that a release stays servable after its last use."""
CHANGED_RECENTLY = 24 * 3600.0
LOG = logging.getLogger(__name__)

Learn = Callable[[Wanted], Awaitable[Known]]
_Key = tuple[str, str, str]


class Catalog:
    """Releases by path, and what is known of each wanted version.

    Args:
        learn: asks upstream for a version.
        path: of `catalog.json`.
        payload: file name of the update itself upstream.
    """

    def __init__(self, learn: Learn, path: Path, payload: str) -> None:
        self._learn = learn
        self._path = path
        self._payload = payload
        self._kept: dict[str, Kept] = {}
        self._questions: dict[_Key, Question] = {}
        self._asking: dict[_Key, asyncio.Task[None]] = {}
        self._closed = False
        # One thread: what is saved later is written later, also when whoever waited was cancelled.
        self._disk = ThreadPoolExecutor(1, "catalog")

    async def start(self) -> None:
        """Read what was known before. A damaged file is put aside, and said. Raises OSError."""
        try:
            kept = await asyncio.to_thread(load, self._path)
        except BadState as error:
            aside = self._path.with_suffix(".damaged")
            LOG.error("%s; it is kept as %s, and releases are learnt anew", error, aside)
            self._path.replace(aside)
            kept = []
        for item in kept:
            self._kept[item.release.id] = item
            if item.current:
                known = Known(item.release, looked_up=item.looked_up)
                self._questions[item.key] = Question(known, set(item.looked_up))

    async def close(self) -> None:
        """Stop asking upstream, and keep the times of last use."""
        self._closed = True
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._save()
        self._disk.shutdown()

    def known(self, app_id: str, board: str, version: str) -> Known | None:
        """What is known of a version now, without asking anyone upstream. It counts as a use of its release."""
        question = self._questions.get((app_id, board, version))
        if question is None or question.known is None:
            return None
        if question.known.release is not None:
            self.offered(question.known.release)
        return question.known

    async def look_up(self, app_id: str, board: str, rule: Rule, oem: str, wait: float) -> None:
        """Learn what a rule needs and is not known or not fresh; one question at a time for all who ask.

        Waits only while nothing can be decided, `wait` seconds at most; learning goes on after that.
        """
        if rule.version is None:
            return
        key = (app_id, board, rule.version)
        question = self._questions.setdefault(key, Question())
        needed = needed_packages(rule, oem)
        question.want(rule.packages, needed, time.monotonic())
        deadline = time.monotonic() + wait
        while not self._closed:
            now = time.monotonic()
            task = self._asking.get(key)
            if task is None or task.done():
                if not question.due(needed, now):
                    return
                task = self._asking[key] = asyncio.create_task(self._ask(key, question))
            if not question.undecided(needed) or now >= deadline:
                return
            await asyncio.wait([task], timeout=deadline - now)

    async def _ask(self, key: _Key, question: Question) -> None:
        app_id, board, version = key
        question.asked = frozenset(question.names)
        question.again = time.monotonic() + RETRY
        before = question.known.release if question.known is not None else None
        extras = tuple(sorted(question.asked))
        try:
            found = await self._learn(Wanted(app_id, board, version, self._payload, extras, before))
        except Exception:
            LOG.exception("looking up %s %s failed; it is tried again", board, version)
            return
        if found.release is None:
            LOG.warning("%s %s: %s: %s", board, version, found.reason, found.detail)
        for name, why in found.lacking.items():
            LOG.warning("%s %s: %s cannot be had: %s", board, version, name, why)
        known = settled(question.known, found)
        if known.release is not before:
            self._keep(key, known)
            await self._save()
        question.known = known
        question.again = time.monotonic() + lasts(found)

    def _keep(self, key: _Key, known: Known) -> None:
        """Remember what is offered from now on; what was offered before stays servable while it is used."""
        for item in self._kept.values():
            if item.key == key:
                item.current = False
        if known.release is not None:
            answered = known.looked_up - known.lacking.keys()
            self._kept[known.release.id] = Kept(known.release, time.time(), answered)
        oldest = time.time() - RETENTION
        for id_, item in list(self._kept.items()):
            if item.last_used < oldest:
                del self._kept[id_]
                if item.current:
                    self._questions.pop(item.key, None)

    async def _save(self) -> None:
        """Write the file. A full disk stops no update: it is said, and tried again with the next answer."""
        loop, kept = asyncio.get_running_loop(), list(self._kept.values())
        try:
            await loop.run_in_executor(self._disk, save, self._path, kept)
        except OSError as error:
            LOG.error("what is offered will not survive a restart: %s", error)

    # Paths

    def current(self) -> list[Release]:
        """The releases that machines are offered now."""
        oldest = time.time() - RETENTION
        return [
            item.release
            for item in self._kept.values()
            if item.current and item.last_used >= oldest
        ]

    def offered(self, release: Release) -> None:
        """Note that a release was used."""
        if (kept := self._kept.get(release.id)) is not None:
            kept.last_used = time.time()

    def package(self, release_id: str, name: str) -> PackageFile | None:
        """A package by the path that an offer named."""
        kept = self._kept.get(release_id)
        if kept is None:
            return None
        self.offered(kept.release)
        return kept.release.file(name)

    def layout_file(self, board: str, version: str, name: str) -> PackageFile | None:
        """A package by its path on the release server: of the newest release that has it."""
        for release in self._releases(board, version):
            found = release.file(name)
            if found is not None:
                self.offered(release)
                return found
        return None

    def changed_recently(self, board: str, version: str, name: str) -> bool:
        """Whether a release server's path got another digest within a day."""
        found = [(r, f) for r in self._releases(board, version) if (f := r.file(name)) is not None]
        return any(
            new.sha256 != old.sha256 and release.learnt > time.time() - CHANGED_RECENTLY
            for (release, new), (_, old) in pairwise(found)
        )

    def _releases(self, board: str, version: str) -> list[Release]:
        """Newest first."""
        found = [
            kept.release
            for kept in self._kept.values()
            if kept.release.board == board and kept.release.version == version
        ]
        return sorted(found, key=lambda release: release.learnt, reverse=True)
