"""The records of the fleet: what the observer writes, and what the reader returns; and the rules of a machine's state.

Times are seconds since the epoch. All text that a machine sends is hostile: `tidy` shortens and escapes it before it is
stored.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter

from omaha_mirror.omaha import AppRequest, EventRequest, EventResult, EventType
from omaha_mirror.reasons import Effect, Reason
from omaha_mirror.text import printable

MAX_TEXT = 200
"""Characters of a stored text: three such texts fit into one entry of PostgreSQL's indexes, 2704 bytes."""
FETCHED = "fetched"
"""The `cache_status` of bytes that came from upstream; all others went to a machine."""
MAX_NUMBER = 2**53
"""Numbers beyond this count as missing."""


class State(StrEnum):
    """The update state of a machine, with the names of Nebraska.

    One update is: a check that is offered a release, event 13/1, the download, 14/1, 3/1, then pings alone until the reboot,
    and with the next check 3/2 with the version before it (omaha_request_action.cc:83-140). `previousversion=""` comes with
    every check and means nothing; `0.0.0.0` comes with the first check of a machine. Nebraska's own rules wait for an event
    800 that update_engine does not send, so under those rules no machine becomes "installed".
    """

    UNDEFINED = "undefined"
    GRANTED = "granted"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLED = "installed"
    COMPLETE = "complete"
    ON_HOLD = "on hold"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class CheckIn:
    """Updatechecks in a row that differ in nothing but their time, and their answer; or a ping alone, or several.

    Not frozen, which would treble the time that it takes to make one. Nobody changes one.

    Attributes:
        time: of the last answer.
        address: of the client.
        machineid: 32 hexadecimal digits; the address replaces a missing one.
        alias: `machinealias`, which the machine's administrator chose.
        app_id: lower case, without braces.
        reason: the name of the reason for the answer; `""` for a ping alone.
        offered: the version of the offer, None for `noupdate`.
        detail: the reason as a sentence for people.
        count: of the checks.
        first: time of the first answer, where there are several.
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
    count: int = 1
    first: float | None = None

    @property
    def since(self) -> float:
        """Time of the first answer."""
        return self.time if self.first is None else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReport:
    """An event of a machine; its fields are those of `omaha.EventRequest`.

    Attributes:
        version: of the machine at the time of the event.
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
    """One response with bytes of a package, to a machine or from upstream.

    Attributes:
        release: its id, or its folder in the requested path.
        bytes: of the body.
        seconds: from its start to its end.
        cache_status: of the response: `hit`, `filling` or `miss`; `FETCHED` for one from upstream.
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
    """One application of one machine, as of its last request.

    Attributes:
        id: see `machine_key`.
        errorcode: of the failure or deferral that is its `state`, else None.
        reason, offered: of the answer to its last check; `""` before the first.
        since, asked: time of the first check with that answer, and number of such checks in a row.
        stretches, reports: numbers of different answers and of events so far. The last ones are stored in rings; these
            numbers give the next slot.
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
    """Checks in a row with the same version, track and answer.

    Attributes:
        first, last: times of the first and the last answer.
        count: of the checks.
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
    """A stored event."""

    time: float
    eventtype: int | None
    eventresult: int | None
    errorcode: int | None
    previousversion: str | None
    version: str


def facts_of(
    app: AppRequest,
    *,
    time: float,
    address: str,
    reason: str = "",
    offered: str | None = None,
    detail: str = "",
) -> tuple[CheckIn | EventReport, ...]:
    """What to record of one application of a request, and of its answer, in order of time.

    The events come first: they happened before the check of the same request. A request with events alone is no check-in.
    The event that update_engine adds to every check is not recorded. See `CheckIn` for the arguments.
    """
    events = [
        _report(app, event, time, address) for event in app.events if not _says_nothing(event)
    ]
    if app.update_check is None and app.ping is None:
        return tuple(events)
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


def _report(app: AppRequest, event: EventRequest, time: float, address: str) -> EventReport:
    return EventReport(
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


def _says_nothing(event: EventRequest) -> bool:
    """Whether it is the event that update_engine adds to every check (omaha_request_action.cc:139)."""
    return (event.previousversion, event.eventtype, event.eventresult) == (
        "",
        EventType.UPDATE_COMPLETE,
        EventResult.SUCCESS_REBOOT,
    )


NO_VERSION = ("", "0.0.0.0")  # noqa: S104 - a version
FAILURES = frozenset(
    {
        EventResult.ERROR,
        EventResult.ERROR_INSTALLER_MSI,
        EventResult.ERROR_INSTALLER_OTHER,
        EventResult.INSTALLER_SYSTEM,
        EventResult.HANDOFF_ERROR,
    }
)


def after_checkin(state: State, checkin: CheckIn) -> State:
    """The state after an answer. An error stays until the machine gets an offer, or needs none."""
    if not checkin.reason:
        return State.INSTALLED  # update_engine pings alone only while it waits for the reboot
    if checkin.offered is not None:
        return State.GRANTED
    reason = Reason.named(checkin.reason)
    effect = Effect.NONE if reason is None else reason.effect
    if Effect.COMPLETE in effect:
        return State.COMPLETE
    if state is State.ERROR:
        return state
    if Effect.ON_HOLD in effect:
        return State.ON_HOLD
    return state if state is State.COMPLETE else State.UNDEFINED


def after_event(state: State, event: EventReport | Event) -> State:
    """The state after an event; unchanged by an event that is not about an update."""
    match _pair(event):
        case EventType.UPDATE_DOWNLOAD_STARTED, EventResult.SUCCESS:
            return State.DOWNLOADING
        case EventType.UPDATE_DOWNLOAD_FINISHED, EventResult.SUCCESS:
            return State.DOWNLOADED
        case ((EventType.UPDATE_COMPLETE | EventType.UPDATE_INSTALLED), EventResult.SUCCESS):
            return State.INSTALLED
        case EventType.UPDATE_COMPLETE, EventResult.SUCCESS_REBOOT:
            return state if event.previousversion in NO_VERSION else State.COMPLETE
        case EventType.UPDATE_COMPLETE, EventResult.UPDATE_DEFERRED:
            return State.ON_HOLD
        case _, result if result in FAILURES:
            return State.ERROR
    return state


def _pair(event: EventRequest | EventReport | Event) -> tuple[int | None, int | None]:
    return event.eventtype, event.eventresult


def machine_key(machineid: str, app_id: str) -> int:
    """A number for a machine and an application, the same in every mirror. Both are tidy."""
    digest = hashlib.blake2b(f"{machineid}\0{app_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def tidy(item: Item) -> Item:
    """The item with short, printable texts, numbers that can be stored, and an id for a machine without one."""
    if isinstance(item, CheckIn) and item.machineid and _is_tidy(item):
        return item
    changes = {
        name: printable(value, MAX_TEXT) if isinstance(value, str) else None
        for name, value in zip(_FIELDS[type(item)], _GETTERS[type(item)](item), strict=True)
        if not (
            (len(value) <= MAX_TEXT and value.isprintable())
            if isinstance(value, str)
            else not isinstance(value, int) or -MAX_NUMBER <= value <= MAX_NUMBER
        )
    }
    if not isinstance(item, Transfer) and not item.machineid:
        changes["machineid"] = printable(item.address, MAX_TEXT)
    return replace(item, **changes) if changes else item  # type: ignore[arg-type]  # each name has its own type


def _is_tidy(checkin: CheckIn) -> bool:
    """The same at a glance, as each check has it."""
    texts = _texts(checkin)
    return "".join(texts).isprintable() and max(map(len, texts)) <= MAX_TEXT


def weight(item: Item) -> int:
    """The approximate memory of an item in bytes."""
    if isinstance(item, CheckIn):
        return _CHECKIN + sys.getsizeof("".join(_texts(item)))
    return _OBJECT + sum(map(sys.getsizeof, _GETTERS[type(item)](item)))


def _texts(checkin: CheckIn) -> tuple[str, ...]:
    return *_said(checkin), checkin.offered or ""


def facts(checkin: CheckIn) -> tuple[object, ...]:
    """All that is told of a check but when it was: the same facts again only count."""
    return *_said(checkin), checkin.offered


def fingerprint(checkin: CheckIn) -> int:
    """A number for its facts, in this process alone; never 0."""
    return hash(facts(checkin)) or 1


_OBJECT = 200
_CHECKIN = 1200
"""Bytes of a check-in, its texts left out."""
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in (CheckIn, EventReport, Transfer)}
_GETTERS = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_said = attrgetter(
    *("machineid", "app_id", "address", "alias", "board", "track", "oem", "oemversion"),
    *("version", "alephversion", "reason", "detail"),
)
