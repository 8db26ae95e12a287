"""Runs the look-ups of versions: one at a time for each version, for all machines that wait for it.

A failed or incomplete look-up is repeated while the version is in use, so that later machines find it complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.catalog.catalog_file import ReleaseKey
from omaha_mirror.catalog.learn import LookupRequest
from omaha_mirror.catalog.model import LookupResult
from omaha_mirror.catalog.question_rate_limit import Turns
from omaha_mirror.catalog.version_lookup import FRESH, Lookup

TOGETHER = 4
"""Pending names that are looked up together with a version while turns are free."""
LOG = structlog.get_logger(__name__)

Learn = Callable[[LookupRequest], Awaitable[LookupResult]]
Settle = Callable[[ReleaseKey, LookupResult], Awaitable[None]]


class Lookups:
    """The look-ups of all versions.

    Args:
        learn: looks a version up.
        wanted: gives the request for a version, without the fields that `Lookup` has.
        settle: stores a result on disk, before it is used for an offer.
        leads: whether a track leads to a version: then it is in use without a check.
        changed: called when machines may need other packages of a version.
        clock: tells the time.
    """

    def __init__(
        self,
        learn: Learn,
        wanted: Callable[[ReleaseKey], LookupRequest],
        settle: Settle,
        leads: Callable[[ReleaseKey], bool],
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._learn = learn
        self._wanted = wanted
        self._settle = settle
        self._leads = leads
        self._changed = changed
        self._clock = clock
        self._turns = Turns(clock)
        self._lookups: dict[ReleaseKey, Lookup] = {}
        self._asking: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._in_use: dict[tuple[str, str], frozenset[str]] = {}
        self._queue: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._pauses: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._closed = False

    async def close(self) -> None:
        """Stop all look-ups."""
        self._closed = True
        tasks = [*self._asking.values(), *self._queue.values(), *self._pauses.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._turns.close()

    def restore(
        self, key: ReleaseKey, known: LookupResult | None, looked_up: Iterable[str]
    ) -> None:
        """Use the result of an earlier process; the next check starts a new look-up."""
        lookup = self._lookups[key] = Lookup()
        lookup.restored(known, looked_up)
        self._in_use.clear()

    def known(self, key: ReleaseKey) -> LookupResult | None:
        """The last result of a version; None before the first."""
        lookup = self._lookups.get(key)
        return None if lookup is None else lookup.known

    def names(self, key: ReleaseKey) -> frozenset[str]:
        """The names of extra packages that are looked up with a version."""
        lookup = self._lookups.get(key)
        return frozenset(() if lookup is None else lookup.names)

    def in_use(self, app_id: str, board: str) -> frozenset[str]:
        """The names of existing extra packages that machines of this site needed, of any version."""
        found = self._in_use.get((app_id, board))
        if found is None:
            found = self._in_use[app_id, board] = frozenset(
                name
                for key, lookup in self._lookups.items()
                if key[:2] == (app_id, board)
                for name in lookup.existing
            )
        return found

    def forget(self, key: ReleaseKey) -> None:
        """Remove a version."""
        self._lookups.pop(key, None)
        self._in_use.clear()

    def outdate(self, key: ReleaseKey) -> None:
        """Upstream sent another release of a version: the last result is out of date."""
        lookup = self.lookup(key)
        lookup.again, lookup.replaced = 0.0, True
        if lookup.known is not None and lookup.known.release is None:
            # The failure was of the earlier release.
            lookup.known = None

    def lookup(self, key: ReleaseKey) -> Lookup:
        """The look-up of a version; a new one for a new version."""
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = Lookup()
        return lookup

    def rebase(self, now: float) -> None:
        """Replace times in the future by now, in seconds since the epoch."""
        for lookup in self._lookups.values():
            lookup.rebase(now)

    def retry(self, keys: Iterable[ReleaseKey]) -> set[asyncio.Task[None]]:
        """Repeat the failed look-ups of these versions at once; gives their tasks."""
        begun = set()
        for key in keys:
            lookup = self._lookups.get(key)
            if lookup is not None and lookup.failures:
                lookup.again = 0.0
                begun.add(self.begin(key))
        return {task for task in begun if task is not None}

    def use(self, key: ReleaseKey) -> None:
        """Record a check for a version, and start a due look-up."""
        self.lookup(key).used = self._clock.boottime()
        self.begin(key)

    async def wait(
        self,
        key: ReleaseKey,
        needed: frozenset[str],
        own: Iterable[str],
        wait: float,
        client: str = "",
    ) -> None:
        """Start a due look-up, and wait at most `wait` seconds while there is no decision for a machine that needs these packages.

        While turns are scarce, a machine does not wait for one of many made-up names.
        """
        lookup = self.lookup(key)
        lookup.used = self._clock.boottime()
        deadline = lookup.used + wait
        while (task := self.begin(key)) is not None:
            left = deadline - self._clock.boottime()
            if not lookup.undecided(needed, own) or left <= 0:
                return
            if self._turns.scarce and lookup.is_pending(needed) and lookup.crowded(client):
                return
            await asyncio.wait([task], timeout=left)

    def begin(self, key: ReleaseKey) -> asyncio.Task[None] | None:
        """The running task; a new one if a look-up is due, or the one that waits for a turn; else None."""
        if self._closed:
            return None
        if key in self._asking:
            return self._asking[key]
        lookup = self.lookup(key)
        queues = bool(lookup.pending) and key not in self._queue
        if queues and lookup.needs_turn and self._turns.free():
            lookup.turns += 1
        if lookup.due(self._clock.boottime()):
            task = self._asking[key] = asyncio.create_task(self._ask(key, lookup))
            task.add_done_callback(lambda _: self._asked(key))
            return task
        if queues and lookup.needs_turn:
            client = lookup.pending[lookup.next]
            waiting = asyncio.create_task(self._wait_for_turn(key, lookup, client))
            self._queue[key] = waiting
            waiting.add_done_callback(lambda _: self._queue.pop(key, None))
            waiting.add_done_callback(log_failure)
        return self._queue.get(key)

    async def _wait_for_turn(self, key: ReleaseKey, lookup: Lookup, client: str) -> None:
        await self._turns.take(client)
        lookup.turns += 1
        self.begin(key)

    def _asked(self, key: ReleaseKey) -> None:
        del self._asking[key]
        if key in self._lookups:
            self.begin(key)

    @property
    def asking(self) -> list[asyncio.Task[None]]:
        """The tasks of running look-ups."""
        return list(self._asking.values())

    async def quiet(self) -> None:
        """Return when no look-up runs."""
        while tasks := self.asking:
            await asyncio.wait(tasks)

    # One round

    async def _ask(self, key: ReleaseKey, lookup: Lookup) -> None:
        """Look up the version with its extras, or only new names."""
        anew = self._clock.boottime() >= lookup.again
        if anew:
            lookup.again = self._clock.boottime() + lookup.pause
        names = self._names(lookup, anew=anew)
        try:
            await self._learnt(key, lookup, names, anew=anew)
        except Exception:
            LOG.exception(
                "a defect ended a look-up; it is tried again",
                board=key.board,
                version=key.version,
            )
            lookup.asked |= names
            for name in names:
                lookup.pending.pop(name, None)

    async def _learnt(
        self, key: ReleaseKey, lookup: Lookup, names: frozenset[str], *, anew: bool
    ) -> None:
        """Run the look-up, store its result, and plan the next."""
        wanted = replace(
            self._wanted(key),
            extras=tuple(sorted(names)),
            before=lookup.known.release if lookup.known is not None else None,
            own=frozenset(lookup.own),
            known=None if anew else lookup.known,
        )
        found = await self._learn(wanted)
        known = lookup.after(found)
        _log(key, lookup, found, known, names)
        if anew or known != lookup.known:
            await self._settle(key, known)
        now = self._clock.boottime()
        lookup.record(known, found, names, now, anew=anew)
        self._in_use.clear()
        self._changed()
        if self._wanted(key).upstream is not wanted.upstream:
            lookup.again, lookup.replaced = 0.0, True
        if lookup.again < now + FRESH / 2 and key not in self._pauses:
            pause = self._pauses[key] = asyncio.create_task(self._pause(key, lookup))
            pause.add_done_callback(lambda _: self._pauses.pop(key, None))
            pause.add_done_callback(log_failure)

    def _names(self, lookup: Lookup, *, anew: bool) -> frozenset[str]:
        """The names to look up in a round; possibly made-up ones take turns."""
        if not anew and lookup.new:
            return frozenset(lookup.new)
        first = set()
        if not anew and lookup.pending:
            lookup.turns -= 1
            first = {lookup.next}
        more = [name for name in reversed(lookup.pending) if name not in first]
        together = {name for name in more[: TOGETHER - len(first)] if self._turns.free()}
        return frozenset({*(lookup.names if anew else ()), *first, *together})

    async def _pause(self, key: ReleaseKey, lookup: Lookup) -> None:
        """Repeat a failed look-up after a pause, if the version is still in use."""
        await self._clock.sleep(max(0.0, lookup.again - self._clock.boottime()))
        if self._leads(key) or self._clock.boottime() - lookup.used < FRESH:
            self.begin(key)


def _log(
    key: ReleaseKey,
    lookup: Lookup,
    found: LookupResult,
    known: LookupResult,
    names: Iterable[str],
) -> None:
    """Log the faults of a look-up, `found`, once while they stay the same; `known` is the result with the earlier one."""
    words = []
    if found.release is None:
        words.append(f"{found.reason}: {found.detail}")
    if found.doubt:
        words.append(
            f"its server does not confirm it, and the cached packages stay offered: {found.doubt}"
        )
    lacking = sorted(found.lacking.keys() & names)
    words += [f"{name} is not available: {found.lacking[name]}" for name in lacking]
    faults = "; ".join(words)
    if faults and faults != lookup.logged:
        what = (
            "a release is not available"
            if known.release is None
            else "a release is not confirmed by its server"
        )
        LOG.warning(what, board=key.board, version=key.version, why=faults)
    lookup.logged = faults
