"""What is told to the fleet store, and what it tells.

Times are seconds since the epoch. All text that a machine sends is hostile: `tidy` cuts it and makes it inert before
anything is kept.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter

from omaha_mirror.omaha import AppRequest, EventRequest, EventResult, EventType
from omaha_mirror.text import printable

MAX_TEXT = 200
"""Characters that are kept of a text: three of them fit into one entry of PostgreSQL's indexes, 2704 bytes."""
FETCHED = "fetched"
"""The `cache_status` of bytes that came over the line instead of going to a machine."""
MAX_NUMBER = 2**53
"""Numbers beyond this are taken for not sent."""


class State(StrEnum):
    """Where a machine is on its way to the version that it should have; see `states`."""

    UNDEFINED = "undefined"
    GRANTED = "granted"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLED = "installed"
    COMPLETE = "complete"
    ON_HOLD = "on hold"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """A machine asked for an update and was told something, or it only said that it lives.

    Attributes:
        time: when it was answered.
        address: that it came from.
        machineid: 32 hexadecimal digits; a machine that sends none goes by its address.
        alias: `machinealias`, which its administrator chose.
        app_id: lower case, without braces.
        reason: the name of the reason for the answer; `""` for a ping alone.
        offered: the version it was offered, None for `noupdate`.
        detail: the reason as a sentence for people.
    """

    time: float
    address: str
    machineid: str
    app_id: str
    version: str
    alias: str = ""
    board: str = ""
    track: str = ""
    oem: str = ""
    oemversion: str = ""
    alephversion: str = ""
    reason: str = ""
    offered: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReport:
    """A machine reported an event; the fields of the event are those of `omaha.EventRequest`.

    Attributes:
        version: that the machine ran when it reported.
    """

    time: float
    address: str
    machineid: str
    app_id: str
    version: str
    eventtype: int | None = None
    eventresult: int | None = None
    errorcode: int | None = None
    previousversion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One response with bytes of a package; or one that was fetched from upstream.

    Attributes:
        release: its id, or the folder of a release that was asked for by path.
        bytes: that were sent.
        seconds: that it took.
        cache_status: how it met the cache: `hit`, `filling` or `miss`; `FETCHED` for one from upstream.
    """

    time: float
    release: str
    name: str
    bytes: int
    seconds: float
    cache_status: str


Item = CheckIn | EventReport | Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One application of one machine, as it was last heard of.

    Attributes:
        id: see `machine_key`.
        errorcode: of the failure or deferral that `state` is about, else None.
        reason, offered: what it was told at its last check; `""` before its first.
        since, asked: when it was first told just that, and how often in a row.
        stretches, reports: how many different answers and how many events there have been: their last ones are kept
            in rings, whose next slot these are.
    """

    id: int
    machineid: str
    app_id: str
    address: str = ""
    alias: str = ""
    board: str = ""
    track: str = ""
    oem: str = ""
    oemversion: str = ""
    version: str = ""
    alephversion: str = ""
    state: State = State.UNDEFINED
    errorcode: int | None = None
    reason: str = ""
    offered: str | None = None
    first_seen: float = 0.0
    last_seen: float = 0.0
    since: float = 0.0
    asked: int = 0
    stretches: int = 0
    reports: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRun:
    """The same question answered the same way, once or many times in a row: a decision and what it looked at.

    Attributes:
        first, last: when it was so answered.
        count: how often.
        detail: of the newest answer; see `CheckIn`.
    """

    first: float
    last: float
    count: int
    version: str
    track: str
    reason: str
    offered: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as it is kept."""

    time: float
    eventtype: int | None
    eventresult: int | None
    errorcode: int | None
    previousversion: str | None
    version: str


def machine_key(machineid: str, app_id: str) -> int:
    """The same number for the same machine and application, in every mirror. Both are tidy."""
    digest = hashlib.blake2b(f"{machineid}\0{app_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def tidy(item: Item) -> Item:
    """The item with every text short and inert, every number storable, and a name for a machine without id."""
    changes = {
        name: printable(value, MAX_TEXT) if isinstance(value, str) else None
        for name, value in zip(_FIELDS[type(item)], _values(item), strict=True)
        if not (
            (len(value) <= MAX_TEXT and value.isprintable())
            if isinstance(value, str)
            else not isinstance(value, int) or -MAX_NUMBER <= value <= MAX_NUMBER
        )
    }
    if not isinstance(item, Transfer) and not item.machineid:
        changes["machineid"] = printable(item.address, MAX_TEXT)
    return replace(item, **changes) if changes else item  # type: ignore[arg-type] # by name


def weight(item: Item) -> int:
    """About how many bytes of memory an item takes."""
    return _OBJECT + sum(map(sys.getsizeof, _values(item)))


def _values(item: Item) -> tuple[object, ...]:
    values: tuple[object, ...] = _GETTERS[type(item)](item)
    return values


_OBJECT = 200
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in (CheckIn, EventReport, Transfer)}
_GETTERS = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}


def facts_of(
    app: AppRequest,
    *,
    time: float,
    address: str,
    reason: str = "",
    offered: str | None = None,
    detail: str = "",
) -> tuple[CheckIn | EventReport, ...]:
    """What to record of one application of a request, and of its answer.

    The events come first: they happened before the check that brings them. A request with events alone is no check-in.
    See `CheckIn` for the arguments.
    """
    events = tuple(
        EventReport(
            time=time,
            address=address,
            machineid=app.machineid,
            app_id=app.app_id,
            version=app.version,
            eventtype=event.eventtype,
            eventresult=event.eventresult,
            errorcode=event.errorcode,
            previousversion=event.previousversion,
        )
        for event in app.events
        if not _says_nothing(event)
    )
    if app.update_check is None and app.ping is None:
        return events
    checkin = CheckIn(
        time=time,
        address=address,
        machineid=app.machineid,
        app_id=app.app_id,
        version=app.version,
        alias=app.machinealias,
        board=app.board,
        track=app.track,
        oem=app.oem,
        oemversion=app.oemversion,
        alephversion=app.alephversion,
        reason=reason,
        offered=offered,
        detail=detail,
    )
    return *events, checkin


def _says_nothing(event: EventRequest) -> bool:
    """Whether it is the event that update_engine adds to every check (omaha_request_action.cc:139)."""
    return (event.previousversion, event.eventtype, event.eventresult) == (
        "",
        EventType.UPDATE_COMPLETE,
        EventResult.SUCCESS_REBOOT,
    )
