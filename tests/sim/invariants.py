"""The invariants that are held against the books, each as a function that yields what breaks it.

The others are seen where they break: by the clients, byte by byte, which note it in the books as failures, and by `watch`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import pairwise

from omaha_mirror.service import Service
from omaha_mirror.web.sending import TIME_TO_CLOSE
from tests.sim.books import NEVER, Books, Invariant
from tests.sim.policy import Policy
from tests.sim.releases import Release
from tests.sim.schedule import (
    ELSEWHERE,
    Act,
    DiskTrouble,
    End,
    Link,
    LinkTrouble,
    Rot,
    Schedule,
)
from tests.sim.upstream import Site, package_of
from tests.support.faults import (
    Change,
    Corrupt,
    Fault,
    LongRange,
    NoRange,
    RawHead,
    WrongLength,
    WrongRange,
)

ROOM = 1 << 20
"""Bytes of a cache in which all packages have room."""
TAIL = 1024
"""Bytes of signatures, which are fetched once more before a whole round."""
LATEST = 5.0
"""Seconds in which what was on its way when the mirror ended arrives."""
SOON = 1.0
"""Seconds in which what a machine reported gets to the disk: a kill within them may lose it."""
AT_ONCE = 6.5
"""Seconds in which a waiting client has what it waits for; five of them may be given it to close in."""
_BLOB = re.compile(r"cache/blobs/../([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over, or over for now."""

    schedule: Schedule
    books: Books
    policy: Policy
    site: Site


def at_end(run: Run, services: Iterable[Service], files: Mapping[str, bytes]) -> Iterator[str]:
    """Everything, after the mirrors were stopped in order.

    Args:
        run: the run.
        services: the last lives of the mirrors, closed.
        files: what is on their disks, by path.
    """
    yield from run.books.failures
    yield from transfers(run.books)
    yield from policy(run)
    yield from clients_end(run)
    yield from bytes_fetched(run)
    yield from events(run)
    yield from woken(run)
    yield from kept(run, files)
    for service in services:
        yield from leaks(service)


def at_crash(run: Run, files: Mapping[str, bytes]) -> Iterator[str]:
    """What a kill or a power cut left on the disk."""
    yield from kept(run, files)


def transfers(books: Books) -> Iterator[str]:
    """No answer ends with success and a wrong byte."""
    for transfer in books.transfers:
        if transfer.is_whole and transfer.wrong is not None:
            broken = Invariant.RANGE if transfer.range else Invariant.WHOLE
            yield (
                f"{broken}: {transfer.who} got {transfer.range or 'all'} of {transfer.path},"
                f" and byte {transfer.wrong} is wrong"
            )


def policy(run: Run) -> Iterator[str]:
    """No machine is offered what no rule in force allows."""
    mirrors = {f"machine {plan.number}": plan.mirror for plan in run.schedule.machines}
    for check in run.books.checks:
        mirror = mirrors[check.who]
        if not run.policy.allows(check, mirror):
            rules = " or ".join(run.policy.rules(check.track, check.asked, check.answered, mirror))
            yield (
                f"{Invariant.POLICY}: {check.who} with {check.version} on {check.track}"
                f" ({rules}) was offered {check.offered} at {check.answered:.3f}"
            )


def clients_end(run: Run) -> Iterator[str]:
    """Every client that goes on trying ends within a bound after the last fault."""
    ended = {ended.who for ended in run.books.ended}
    broken = " ".join(run.books.failures)
    for plan in run.schedule.machines:
        who = f"machine {plan.number}"
        if who not in ended and f"{who} " not in broken:
            yield f"{Invariant.ENDS}: {who} ({plan.kind}, {plan.track}) did not"


def bytes_fetched(run: Run) -> Iterator[str]:
    """Upstream sends each byte once, and again only what something destroyed."""
    every = run.schedule.releases
    if run.schedule.settings.max_size < sum(len(b) for r in every for b in r.files.values()):
        return  # what finds no room is fetched for each who asks
    for release in every:
        for name, body in release.files.items():
            path = release.path(name)
            fetched = run.site.fetched(path)
            most = _most(run, release, path, len(body))
            if fetched > most:
                yield (
                    f"{Invariant.FETCHED}: {fetched} of {path}, at most {most} for {len(body)},"
                    f" with {len(run.site.requests(path))} requests"
                )


def _most(run: Run, release: Release, path: str, size: int) -> int:
    struck = [fault for where, fault in run.site.server.struck if where in (path, ELSEWHERE + path)]
    requests = run.site.requests(path)
    rounds = sum(_rounds(event, run.schedule) for event in run.schedule.events)
    if (
        run.schedule.settings.max_size < ROOM
    ):  # what is not kept is fetched for each who comes later
        rounds += 1 + 2 * len(run.schedule.machines)
    destroyed = sum(_cost(fault, release, size) for fault in struck)
    return size * (1 + rounds) + destroyed + len(requests) * _unseen(run.schedule.settings.link)


def _unseen(line: Link) -> int:
    """Bytes that upstream has sent when it sees that nobody reads on, or that were on their way when the line was cut."""
    return int(3 * line.latency * line.rate) + 2 * line.buffer + 2 * line.segment


def _rounds(event: object, schedule: Schedule) -> int:
    """How often a whole package may be fetched again for something that is no fault of upstream's."""
    match event:
        case End(how="power") | Rot() | Act(what="remove" | "import" | "gc"):
            return 1
        case DiskTrouble():
            return 2 + len(schedule.machines)
        case _:
            return 0


def _cost(fault: Fault, release: Release, size: int) -> int:
    """Bytes that a fault destroyed."""
    match fault:
        case Corrupt(at=at):
            marks = release.marks
            spans = pairwise(marks[1:-1])
            operation = [stop - start for start, stop in spans if start <= at < stop]
            if operation and size == marks[-1]:
                return 2 * operation[0]
            # A wrong manifest lets right operations look wrong, before the whole digest tells.
            largest = max(release.operations) if at < marks[1] and size == marks[-1] else 0
            return size + TAIL + 2 * largest
        case NoRange() | WrongRange() | WrongLength() | RawHead() | LongRange():
            return size
        case Change(body=body):
            # The right file in its place again is another one: it is sent from its first byte.
            return size * (5 if len(body) == size else 1)
        case _:
            return 0


def events(run: Run) -> Iterator[str]:
    """No event is lost or counted twice, but for what the README says of kills and power cuts."""
    schedule, books = run.schedule, run.books
    if schedule.settings.forward_events != "all" or schedule.settings.second:
        return
    if any(isinstance(event, DiskTrouble) for event in schedule.events):
        return
    is_answered = not any(
        isinstance(event, LinkTrouble) and event.who == "upstream" for event in schedule.events
    )
    taken, again = Counter[object](), Counter[object]()
    for machineid, event, when, whole, is_page in run.site.reported():
        taken[machineid, event] += whole
        again[machineid, event] += is_page
        # What was not answered at a kill is sent again; a power cut may lose that it was sent for longer.
        again[machineid, event] += sum(
            life.how == "power" or when + SOON > life.ended
            for life in books.lives
            if life.how in ("kill", "power") and when < life.ended + LATEST
        )
    told, sure = Counter[object](), Counter[object]()
    ends = [life for life in books.lives if life.how in ("kill", "power")]
    for one in books.told:
        rules = run.policy.rules(one.track, one.asked, min(one.answered, one.asked + 120.0))
        told[one.machineid, one.event] += 1
        if {rule.partition(" ")[0] for rule in rules} <= {"follow", "pin"} and one.answered < NEVER:
            sure[one.machineid, one.event] += not any(
                life.ended >= one.asked
                and (life.how == "power" or life.ended < one.answered + SOON)
                for life in ends
            )
    for key, count in sorted(sure.items(), key=str):
        if taken[key] < count:
            yield f"{Invariant.LOST}: {key} was told {count} times, and upstream took {taken[key]}"
    for key, count in sorted(taken.items(), key=str):
        if is_answered and count > told[key] + again[key]:
            yield f"{Invariant.TWICE}: {key} was told {told[key]} times, and upstream took {count}"


def woken(run: Run) -> Iterator[str]:
    """Whoever waits for a package gets the rest of it as soon as it is proven."""
    schedule, machines = run.schedule, {f"machine {p.number}": p for p in run.schedule.machines}
    if any(isinstance(event, DiskTrouble | End) for event in schedule.events):
        return
    troubled = {event.who for event in schedule.events if isinstance(event, LinkTrouble)}
    for transfer in run.books.transfers:
        plan = machines[transfer.who]
        if transfer.who in troubled or not transfer.is_whole:
            continue
        key = _key(schedule, transfer.path)
        proven = [
            one.at
            for one in run.books.proven
            if (one.mirror, one.key) == (plan.mirror, key)
            and transfer.began <= one.at <= transfer.ended
        ]
        link = plan.link
        crowded = 2 + link.segment / link.buffer  # what finds no room in a buffer travels again
        line = crowded * transfer.announced / link.rate + 20 * link.latency
        line += TIME_TO_CLOSE if transfer.first else 0.0  # it may be asking for the metadata again
        if proven and transfer.ended > proven[0] + line + AT_ONCE:
            yield (
                f"{Invariant.WOKEN}: {transfer.who} got {transfer.range or 'all'} of {transfer.path}"
                f" {transfer.ended - proven[0]:.3f} s after it was proven"
            )


def _key(schedule: Schedule, path: str) -> str:
    """Of the package at a path of a mirror; empty where that is none."""
    where = package_of(path)
    found = [
        hashlib.sha256(body).hexdigest()
        for release in schedule.releases
        for name, body in release.files.items()
        if release.path(name) == where
    ]
    return found[0] if found else ""


def kept(run: Run, files: Mapping[str, bytes]) -> Iterator[str]:
    """Nothing wrong has a name among the proven packages."""
    if any(isinstance(event, Rot) for event in run.schedule.events):
        return
    for path, content in sorted(files.items()):
        found = _BLOB.search(path)
        if found and hashlib.sha256(content).hexdigest() != found[1]:
            yield f"{Invariant.KEPT}: {path} has {len(content)} wrong bytes"


def leaks(service: Service) -> Iterator[str]:
    """Nothing is left of what goes on in a mirror that was stopped."""
    cache, scheduler = service.cache, service.cache.scheduler
    left: dict[str, Sized] = {
        "fills": cache._fills,
        "tasks of fills": cache._tasks,
        "reservations": service._ledger.reserved,
        "readers": cache._uses.readers,
        "fetchers": cache._uses._fetchers,
        "blobs kept busy": cache._uses._busy,
        "fills in the queue": scheduler._fills,
        "takers of the line": scheduler._takers,
        "drafts": cache._context.growing,
        "tasks": service._tasks,
    }
    for name, some in left.items():
        if some:
            yield f"{Invariant.LEFT}: {len(some)} {name}"
