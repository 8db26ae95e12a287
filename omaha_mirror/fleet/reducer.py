"""Applies a batch of items to rows, in order of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from omaha_mirror.fleet.model import (
    CheckIn,
    EventReport,
    Item,
    State,
    Transfer,
    after_checkin,
    after_event,
    fingerprint,
    machine_key,
)
from omaha_mirror.fleet.schema import REPORTS, STRETCHES

DAY = 86400
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows to write, by key. Each replaces the stored row, but those of transfers are added to it.

    Attributes:
        machines: of `machines` and `latest`.
        ended: `last` and `count` of stored rows of `checkins`.
    """

    machines: dict[int, Row] = field(default_factory=dict)
    checkins: dict[tuple[int, int], Row] = field(default_factory=dict)
    ended: dict[tuple[int, int], Row] = field(default_factory=dict)
    events: dict[tuple[int, int], Row] = field(default_factory=dict)
    transfers: dict[tuple[int, str, str, str], Row] = field(default_factory=dict)


def keyed(items: Iterable[Item]) -> list[tuple[int, Item]]:
    """The items, each with the key of its machine; 0 for a transfer."""
    return [
        (0 if isinstance(item, Transfer) else machine_key(item.machineid, item.app_id), item)
        for item in items
    ]


def repeated(known: Iterable[Sequence[Any]], items: Iterable[tuple[int, Item]]) -> list[Row]:
    """The rows of `latest` of machines with one item, which is the check that each made before.

    Args:
        known: the stored rows of `latest`.
        items: tidy ones, with their keys.
    """
    only: dict[int, Item | None] = {}
    for key, item in items:
        only[key] = None if key in only else item
    again = ((row, only[row[0]]) for row in known)
    return [
        {
            "id": key,
            "last_seen": max(last_seen, item.time),
            "answered": item.time,
            "asked": asked + item.count,
            "facts": facts,
        }
        for (key, last_seen, _, asked, facts), item in again
        if isinstance(item, CheckIn) and facts == fingerprint(item)
    ]


def reduce(known: Mapping[int, Row], items: Iterable[tuple[int, Item]]) -> Changes:
    """The changes that items make, oldest first.

    Args:
        known: the stored rows of their machines, of both tables.
        items: tidy ones, with their keys.
    """
    changes = Changes()
    for key, item in items:
        if isinstance(item, Transfer):
            _transferred(changes, item)
            continue
        machine = changes.machines.get(key)
        if machine is None:
            row = known.get(key) or _new(key, item)
            machine = changes.machines[key] = dict(row)
        machine["address"] = item.address
        machine["last_seen"] = max(machine["last_seen"], item.time)
        if isinstance(item, CheckIn):
            _checked_in(changes, machine, item)
        else:
            _reported(changes, machine, item)
    return changes


def _new(key: int, item: CheckIn | EventReport) -> Row:
    since = item.since if isinstance(item, CheckIn) else item.time
    return {
        "id": key,
        "machineid": item.machineid,
        "app_id": item.app_id,
        "address": item.address,
        **dict.fromkeys(_SENT, ""),
        "version": item.version,
        "state": State.UNDEFINED,
        "errorcode": None,
        "reason": "",
        "offered": None,
        "first_seen": since,
        "last_seen": item.time,
        "since": since,
        "answered": item.time,
        "asked": 0,
        "facts": 0,
        "stretches": 0,
        "reports": 0,
    }


def _checked_in(changes: Changes, machine: Row, checkin: CheckIn) -> None:
    before = machine["version"], machine["track"], machine["reason"], machine["offered"]
    machine.update(zip(_SENT, _sent(checkin), strict=True))
    _enter(machine, after_checkin(State(machine["state"]), checkin), machine["errorcode"])
    machine["facts"] = fingerprint(checkin) if checkin.reason else 0
    if not checkin.reason:
        if before[:2] != (checkin.version, checkin.track):
            _end_stretch(changes, machine)
        return
    if (
        before == (checkin.version, checkin.track, checkin.reason, checkin.offered)
        and machine["asked"]
    ):
        machine["asked"] += checkin.count
    else:
        _end_stretch(changes, machine)
        machine["asked"] = checkin.count
        machine["stretches"] += 1
        machine["since"] = checkin.since
        machine["reason"], machine["offered"] = checkin.reason, checkin.offered
    machine["answered"] = checkin.time
    slot = (machine["stretches"] - 1) % STRETCHES
    changes.ended.pop((machine["id"], slot), None)
    changes.checkins[machine["id"], slot] = {
        "machine": machine["id"],
        "slot": slot,
        "first": machine["since"],
        "last": checkin.time,
        "count": machine["asked"],
        "version": checkin.version,
        "track": checkin.track,
        "reason": checkin.reason,
        "offered": checkin.offered,
        "detail": checkin.detail,
    }


def _end_stretch(changes: Changes, machine: Row) -> None:
    """Write down the end of the current stretch, if there is one."""
    slot = (machine["stretches"] - 1) % STRETCHES
    if machine["asked"] and (machine["id"], slot) not in changes.checkins:
        changes.ended[machine["id"], slot] = {
            "of": machine["id"],
            "at": slot,
            "last": machine["answered"],
            "count": machine["asked"],
        }
    machine["asked"] = 0


def _reported(changes: Changes, machine: Row, event: EventReport) -> None:
    machine["facts"] = 0
    slot = machine["reports"] % REPORTS
    machine["reports"] += 1
    changes.events[machine["id"], slot] = {
        "machine": machine["id"],
        "slot": slot,
        "time": event.time,
        "eventtype": event.eventtype,
        "eventresult": event.eventresult,
        "errorcode": event.errorcode,
        "previousversion": event.previousversion,
        "version": event.version,
    }
    _enter(machine, after_event(State(machine["state"]), event), event.errorcode)


def _enter(machine: Row, state: State, errorcode: int | None) -> None:
    """Set the state; an errorcode belongs to a failure or deferral."""
    if state not in (State.ERROR, State.ON_HOLD):
        machine["errorcode"] = None
    elif errorcode:
        machine["errorcode"] = errorcode
    machine["state"] = state.value


def _transferred(changes: Changes, transfer: Transfer) -> None:
    day = int(transfer.time // DAY) * DAY
    key = day, transfer.release, transfer.name, transfer.cache_status
    row = changes.transfers.get(key)
    if row is None:
        names = ("day", "release", "name", "cache_status")
        row = {**dict(zip(names, key, strict=True)), "requests": 0, "bytes": 0, "seconds": 0.0}
        changes.transfers[key] = row
    row["requests"] += 1
    row["bytes"] += transfer.bytes
    row["seconds"] += transfer.seconds


_SENT = ("alias", "board", "track", "oem", "oemversion", "version", "alephversion")
_sent = attrgetter(*_SENT)
