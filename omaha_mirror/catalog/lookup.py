"""Looking versions up: what is known of each, who waits for it, and when upstream is asked again.

One question at a time for a version, for all who ask. What upstream could not say, or has not yet, is asked again by
itself for as long as the version is in use: a machine that comes later finds it known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import log_failure
from omaha_mirror.catalog.learn import LookupRequest
from omaha_mirror.catalog.model import LookupResult
from omaha_mirror.catalog.question_turns import Turns
from omaha_mirror.catalog.state import ReleaseKey
from omaha_mirror.catalog.version_lookup import FRESH, Lookup

TOGETHER = 4
"""Names that machines sent, and that are looked up with a version where nobody waits for a turn."""
LOG = structlog.get_logger(__name__)

Learn = Callable[[LookupRequest], Awaitable[LookupResult]]
Settle = Callable[[ReleaseKey, LookupResult], Awaitable[None]]


class Lookups:
    """What is known of versions.

    Args:
        learn: settles a version.
        wanted: what is to be learnt of a version, but for what `Lookup` knows.
        settle: told before another release of a version is known, so that it is on disk before its first offer.
        leads: whether a track leads to a version: it is in use then although no machine asks.
        changed: told when machines may need other packages of a version.
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
        self._questions: dict[ReleaseKey, Lookup] = {}
        self._asking: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._in_use: dict[tuple[str, str], frozenset[str]] = {}
        self._queue: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._pauses: dict[ReleaseKey, asyncio.Task[None]] = {}
        self._closed = False

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        tasks = [*self._asking.values(), *self._queue.values(), *self._pauses.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._turns.close()

    def restore(
        self, key: ReleaseKey, known: LookupResult | None, looked_up: Iterable[str]
    ) -> None:
        """Take up what was known of a version; upstream is asked anew when somebody asks for it."""
        question = self._questions[key] = Lookup()
        question.restored(known, looked_up)
        self._in_use.clear()

    def known(self, key: ReleaseKey) -> LookupResult | None:
        """What is known of a version; None before the first answer."""
        question = self._questions.get(key)
        return None if question is None else question.known

    def names(self, key: ReleaseKey) -> frozenset[str]:
        """The extra packages that are looked up with a version."""
        question = self._questions.get(key)
        return frozenset(() if question is None else question.names)

    def in_use(self, app_id: str, board: str) -> frozenset[str]:
        """Extra packages that machines here needed of any version, and that there were."""
        found = self._in_use.get((app_id, board))
        if found is None:
            found = self._in_use[app_id, board] = frozenset(
                name
                for key, question in self._questions.items()
                if key[:2] == (app_id, board)
                for name in question.had
            )
        return found

    def forget(self, key: ReleaseKey) -> None:
        """Let a version go."""
        self._questions.pop(key, None)
        self._in_use.clear()

    def outdate(self, key: ReleaseKey) -> None:
        """Upstream told of another release of a version: what was learnt before is old."""
        question = self.question(key)
        question.again, question.replaced = 0.0, True
        if question.known is not None and question.known.release is None:
            # Why the other one could not be had says nothing of this one.
            question.known = None

    def question(self, key: ReleaseKey) -> Lookup:
        """What is asked about a version."""
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = Lookup()
        return question

    def rebase(self, now: float) -> None:
        """Take what lies in the future for now, in seconds since the epoch."""
        for question in self._questions.values():
            question.rebase(now)

    def retry(self, keys: Iterable[ReleaseKey]) -> set[asyncio.Task[None]]:
        """Ask at once about those of the versions with which there was trouble; the questions under way."""
        begun = set()
        for key in keys:
            question = self._questions.get(key)
            if question is not None and question.failures:
                question.again = 0.0
                begun.add(self.begin(key))
        return {task for task in begun if task is not None}

    async def wait(
        self,
        key: ReleaseKey,
        needed: frozenset[str],
        own: Iterable[str],
        wait: float,
        client: str = "",
    ) -> None:
        """Ask what is due, and wait while a machine that needs these packages cannot be answered, `wait` seconds at most.

        While turns are scarce nobody waits for one of many made-up names.
        """
        question = self.question(key)
        question.used = self._clock.boottime()
        deadline = question.used + wait
        while (task := self.begin(key)) is not None:
            left = deadline - self._clock.boottime()
            if not question.undecided(needed, own) or left <= 0:
                return
            if self._turns.scarce and question.waits(needed) and question.crowded(client):
                return
            await asyncio.wait([task], timeout=left)

    def begin(self, key: ReleaseKey) -> asyncio.Task[None] | None:
        """The question under way; a new one if that is due, or what waits for its turn to ask; else None."""
        if self._closed:
            return None
        if key in self._asking:
            return self._asking[key]
        question = self.question(key)
        queues = bool(question.pending) and key not in self._queue
        if queues and question.queues and self._turns.free():
            question.turns += 1
        if question.due(self._clock.boottime()):
            task = self._asking[key] = asyncio.create_task(self._ask(key, question))
            task.add_done_callback(lambda _: self._asked(key))
            return task
        if queues and question.queues:
            client = question.pending[question.next]
            waiting = asyncio.create_task(self._wait_for_turn(key, question, client))
            self._queue[key] = waiting
            waiting.add_done_callback(lambda _: self._queue.pop(key, None))
            waiting.add_done_callback(log_failure)
        return self._queue.get(key)

    async def _wait_for_turn(self, key: ReleaseKey, question: Lookup, client: str) -> None:
        await self._turns.take(client)
        question.turns += 1
        self.begin(key)

    def _asked(self, key: ReleaseKey) -> None:
        del self._asking[key]
        if key in self._questions:
            self.begin(key)

    @property
    def asking(self) -> list[asyncio.Task[None]]:
        """The questions under way."""
        return list(self._asking.values())

    async def quiet(self) -> None:
        """Wait until nothing is being asked."""
        while tasks := self.asking:
            await asyncio.wait(tasks)

    # Asking

    async def _ask(self, key: ReleaseKey, question: Lookup) -> None:
        """One round: the version and all that is looked up with it, or names that are new."""
        anew = self._clock.boottime() >= question.again
        if anew:
            question.again = self._clock.boottime() + question.pause
        names = self._names(question, anew=anew)
        try:
            await self._learnt(key, question, names, anew=anew)
        except Exception:
            LOG.exception(
                "looking up a version failed; it is tried again",
                board=key.board,
                version=key.version,
            )
            question.asked |= names
            for name in names:
                question.pending.pop(name, None)

    async def _learnt(
        self, key: ReleaseKey, question: Lookup, names: frozenset[str], *, anew: bool
    ) -> None:
        """Learn what a round is about, and take it in."""
        wanted = replace(
            self._wanted(key),
            extras=tuple(sorted(names)),
            before=question.known.release if question.known is not None else None,
            own=frozenset(question.own),
            known=None if anew else question.known,
        )
        found = await self._learn(wanted)
        known = question.after(found)
        _say(key, question, found, known, names)
        if anew or known != question.known:
            await self._settle(key, known)
        now = self._clock.boottime()
        question.record(known, found, names, now, anew=anew)
        self._in_use.clear()
        self._changed()
        if self._wanted(key).told is not wanted.told:
            question.again, question.replaced = 0.0, True
        if question.again < now + FRESH / 2 and key not in self._pauses:
            pause = self._pauses[key] = asyncio.create_task(self._pause(key, question))
            pause.add_done_callback(lambda _: self._pauses.pop(key, None))
            pause.add_done_callback(log_failure)

    def _names(self, question: Lookup, *, anew: bool) -> frozenset[str]:
        """What to look up in a round: names that may be made up take turns."""
        if not anew and question.new:
            return frozenset(question.new)
        first = set()
        if not anew and question.pending:
            question.turns -= 1
            first = {question.next}
        more = [name for name in reversed(question.pending) if name not in first]
        together = {name for name in more[: TOGETHER - len(first)] if self._turns.free()}
        return frozenset({*(question.names if anew else ()), *first, *together})

    async def _pause(self, key: ReleaseKey, question: Lookup) -> None:
        """Ask again after trouble, for as long as somebody may need the answer."""
        await self._clock.sleep(max(0.0, question.again - self._clock.boottime()))
        if self._leads(key) or self._clock.boottime() - question.used < FRESH:
            self.begin(key)


def _say(
    key: ReleaseKey,
    question: Lookup,
    found: LookupResult,
    known: LookupResult,
    names: Iterable[str],
) -> None:
    """Log what an operator should know of an answer, `found`, and of what is known by it; once while it stays the same."""
    words = []
    if found.release is None:
        words.append(f"{found.reason}: {found.detail}")
    if found.doubt:
        words.append(f"what is here stays offered, but cannot be confirmed now: {found.doubt}")
    lacking = sorted(found.lacking.keys() & names)
    words += [f"{name} cannot be had: {found.lacking[name]}" for name in lacking]
    said = "; ".join(words)
    if said and said != question.said:
        what = (
            "a release cannot be had" if known.release is None else "a release cannot be confirmed"
        )
        LOG.warning(what, board=key.board, version=key.version, why=said)
    question.said = said
