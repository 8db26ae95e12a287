"""Machines as the status page shows them: rows of a table, a timeline, recent errors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import get_args
from urllib.parse import quote, urlencode

from omaha_mirror.cache.events import FillEnded, Outcome
from omaha_mirror.catalog import Reason
from omaha_mirror.fleet import (
    DecisionRun,
    Event,
    History,
    Machine,
    MachineEvent,
    MachineQuery,
    State,
    cause_of,
    explain,
)
from omaha_mirror.fleet.listing import Sort
from omaha_mirror.omaha import describe_event
from omaha_mirror.text import some
from omaha_mirror.web.admin.page.rendering import Moment, file_of, moment
from omaha_mirror.web.admin.page.svg import STATES
from omaha_mirror.web.errors import BadRequest

PER_PAGE = 50
MAX_PAGE = 1_000_000
TIMES = ("last_seen", "first_seen")
SORTS: tuple[Sort, ...] = get_args(Sort)
FACTS = {
    "machineid": "Machine id",
    "alias": "Alias",
    "address": "Address",
    "board": "Board",
    "track": "Track",
    "version": "Version",
    "oem": "OEM",
    "oemversion": "OEM version",
    "alephversion": "Installed as",
    "app_id": "Application",
}


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine in a table."""

    url: str
    name: str
    machineid: str
    address: str
    version: str
    track: str
    state: str
    colour: str
    decision: str
    seen: Moment


def machine_url(machine: Machine) -> str:
    """The path and query of a machine's page."""
    query = urlencode({"app": machine.app_id})
    return f"/machines/{quote(machine.machineid, safe='')}?{query}"


def row(machine: Machine, now: float) -> MachineRow:
    """A machine with its last decision."""
    offered = f"offered {machine.offered}" if machine.offered is not None else ""
    return MachineRow(
        url=machine_url(machine),
        name=machine.alias or machine.machineid,
        machineid=machine.machineid,
        address=machine.address,
        version=machine.version,
        track=machine.track,
        state=machine.state.value,
        colour=f"state-{STATES[machine.state]}",
        decision=offered or _words(machine.reason),
        seen=moment(machine.last_seen, now),
    )


def _words(reason: str) -> str:
    known = Reason.named(reason)
    return reason if known is None else known.words


def query_of(asked: Mapping[str, str]) -> MachineQuery:
    """The question that a page's address asks. Raises BadRequest."""
    try:
        state = State(asked["state"]) if asked.get("state") else None
        page = int(asked.get("page") or "1")
    except ValueError:
        raise BadRequest("state must be one of the page's, and page a number") from None
    sort = next((name for name in SORTS if name == (asked.get("sort") or "last_seen")), None)
    if sort is None or not 1 <= page <= MAX_PAGE:
        raise BadRequest(f"sort must be one of {', '.join(SORTS)}, and page at least 1")
    return MachineQuery(
        search=asked.get("search", ""),
        state=state,
        version=asked.get("version") or None,
        track=asked.get("track") or None,
        board=asked.get("board") or None,
        sort=sort,
        descending=(asked.get("order") or ("desc" if sort in TIMES else "asc")) == "desc",
        page=page,
        per_page=PER_PAGE,
    )


def page_url(query: MachineQuery, page: int) -> str:
    """Where another page of the same machines is."""
    default = MachineQuery()
    given = {
        field.name: getattr(query, field.name)
        for field in fields(query)
        if field.name not in ("page", "per_page", "descending")
        and getattr(query, field.name) != getattr(default, field.name)
    }
    order = "desc" if query.descending else "asc"
    return f"/machines?{urlencode({**given, 'order': order, 'page': page})}"


@dataclass(frozen=True, slots=True)
class Moved:
    """One entry of a timeline; `level` is `ok` or `bad`."""

    when: Moment
    words: str
    level: str
    until: Moment | None = None


@dataclass(frozen=True, slots=True)
class MachineView:
    """All about one machine."""

    title: str
    state: str
    colour: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    first_seen: Moment
    timeline: tuple[Moved, ...]


def machine(history: History, now: float) -> MachineView:
    """A machine with why it did or did not update, and what happened, the newest first."""
    it = history.machine
    happened = [(stretch.last, _asked(stretch, now)) for stretch in history.stretches]
    happened += [(event.time, _reported(event, now)) for event in history.events]
    happened.sort(key=lambda entry: entry[0], reverse=True)
    return MachineView(
        title=it.alias or it.machineid,
        state=it.state.value,
        colour=f"state-{STATES[it.state]}",
        sentences=tuple(explain(it, history.stretches, history.events, now)),
        facts=tuple(
            (words, value) for name, words in FACTS.items() if (value := getattr(it, name))
        ),
        first_seen=moment(it.first_seen, now),
        timeline=tuple(entry for _, entry in happened),
    )


def _asked(stretch: DecisionRun, now: float) -> Moved:
    asked = f"Asked as {stretch.version or 'no version'} on {stretch.track or 'no track'}"
    often = f" ({stretch.count:,} times)" if stretch.count > 1 else ""
    if stretch.offered is not None:
        decision = f"offered {stretch.offered}"
    else:
        decision = f"no update: {stretch.detail or _words(stretch.reason)}"
    first = moment(stretch.first, now)
    last = moment(stretch.last, now)
    return Moved(first, f"{asked}{often}; {decision}.", "ok", last if stretch.count > 1 else None)


def _reported(event: Event, now: float) -> Moved:
    words = describe_event(
        event.eventtype, event.eventresult, event.errorcode, event.previousversion
    )
    level = "bad" if event.errorcode else "ok"
    return Moved(moment(event.time, now), f"Reported: {words}.", level)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong, with what it was about."""

    when: Moment
    what: str
    url: str
    words: str
    cause: str = ""
    remedy: str = ""


def troubles(
    reported: Iterable[MachineEvent],
    fills: Sequence[tuple[float, FillEnded]],
    now: float,
    most: int,
) -> list[Trouble]:
    """What machines reported and what failed on the way here, the newest first; times are seconds since the epoch."""
    found = [(item.event.time, _failed(item, now)) for item in reported]
    found += [
        (
            time,
            Trouble(
                moment(time, now), file_of(event.source), "", f"{event.outcome}: {event.reason}"
            ),
        )
        for time, event in fills
        if event.outcome in (Outcome.WRONG, Outcome.UNTRUSTED, Outcome.FAILED)
    ]
    found.sort(key=lambda entry: entry[0], reverse=True)
    return [trouble for _, trouble in found[:most]]


def _failed(item: MachineEvent, now: float) -> Trouble:
    event = item.event
    words = describe_event(
        event.eventtype, event.eventresult, event.errorcode, event.previousversion
    )
    cause = cause_of(event.errorcode) if event.errorcode is not None else None
    return Trouble(
        when=moment(event.time, now),
        what=item.machine.alias or item.machine.machineid,
        url=machine_url(item.machine),
        words=f"{words}, as {event.version}" if event.version else words,
        cause=cause.likely if cause else "",
        remedy=cause.remedy if cause else "",
    )


def found(total: int, query: MachineQuery) -> str:
    """How many machines a question found."""
    asked = query.search or query.state or query.version or query.track or query.board
    return f"{some(total, 'machine')} {'found' if asked else 'known'}"
