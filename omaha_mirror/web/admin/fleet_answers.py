"""Machines and their reports, as the API shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from omaha_mirror.catalog import Reason
from omaha_mirror.fleet import DecisionRun, Event, Machine, MachineEvent, State, cause_of
from omaha_mirror.omaha import describe_error, describe_event


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """One application of one machine, as of its last request.

    Attributes:
        errorcode, error: of the failure or deferral that `state` is about, and the same in words.
        reason, offered: the decision at its last check.
        since, asked: when that decision was first made, and how often in a row.
    """

    machineid: str
    app_id: str
    address: str
    alias: str
    board: str
    track: str
    oem: str
    oemversion: str
    version: str
    alephversion: str
    state: State
    errorcode: int | None
    error: str
    reason: str
    offered: str | None
    first_seen: float
    last_seen: float
    since: float
    asked: int


@dataclass(frozen=True, slots=True)
class Machines:
    """A page of `total` machines."""

    machines: tuple[MachineInfo, ...]
    total: int
    page: int
    per_page: int


@dataclass(frozen=True, slots=True)
class EventInfo:
    """What a machine reported, `words` for people, and for an error that a server can cause what helps."""

    time: float
    eventtype: int | None
    eventresult: int | None
    errorcode: int | None
    previousversion: str | None
    version: str
    words: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class MachineHistory:
    """A machine, sentences that explain its state, and its history; the newest comes first."""

    machine: MachineInfo
    explanation: tuple[str, ...]
    decisions: tuple[DecisionRun, ...]
    events: tuple[EventInfo, ...]


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """A failure or deferral, and the machine that reported it, in its state now."""

    machine: MachineInfo
    event: EventInfo


@dataclass(frozen=True, slots=True)
class FleetEvents:
    """The newest failures and deferrals, rollbacks among them; the newest comes first."""

    events: tuple[FleetEvent, ...]


@dataclass(frozen=True, slots=True)
class LastDecision:
    """The last decision about a machine: first made at `first`, `count` times since; `words` say why."""

    machineid: str
    app_id: str
    alias: str
    version: str
    board: str
    track: str
    reason: str
    offered: str | None
    words: str
    first: float
    last: float
    count: int


@dataclass(frozen=True, slots=True)
class LastDecisions:
    """The last decisions about `total` machines, a page of them; the machine last seen comes first."""

    decisions: tuple[LastDecision, ...]
    total: int
    page: int
    per_page: int


def machine_info(machine: Machine) -> MachineInfo:
    """A machine as the API shows it."""
    error = str(describe_error(machine.errorcode)) if machine.errorcode is not None else ""
    same = {name: getattr(machine, name) for name in _SAME}
    return MachineInfo(**same, error=error)


def event_info(event: Event) -> EventInfo:
    """An event as the API shows it."""
    cause = cause_of(event.errorcode) if event.errorcode is not None else None
    return EventInfo(
        time=event.time,
        eventtype=event.eventtype,
        eventresult=event.eventresult,
        errorcode=event.errorcode,
        previousversion=event.previousversion,
        version=event.version,
        words=describe_event(
            event.eventtype, event.eventresult, event.errorcode, event.previousversion
        ),
        cause=cause.likely if cause is not None else "",
        remedy=cause.remedy if cause is not None else "",
    )


_SAME = tuple(field.name for field in fields(MachineInfo) if field.name != "error")


def fleet_event(found: MachineEvent) -> FleetEvent:
    """An event with its machine, as the API shows them."""
    return FleetEvent(machine_info(found.machine), event_info(found.event))


def last_decision(machine: Machine) -> LastDecision:
    """The last decision about a machine, as the API shows it."""
    reason = Reason.named(machine.reason)
    return LastDecision(
        machineid=machine.machineid,
        app_id=machine.app_id,
        alias=machine.alias,
        version=machine.version,
        board=machine.board,
        track=machine.track,
        reason=machine.reason,
        offered=machine.offered,
        words=reason.words if reason is not None else "it has not asked yet",
        first=machine.since,
        last=machine.last_seen,
        count=machine.asked,
    )
