"""Why a machine did or did not update, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omaha_mirror.fleet.causes import cause_of
from omaha_mirror.fleet.model import DecisionRun, Event, Machine, State
from omaha_mirror.fleet.states import FAILURES, NO_VERSION
from omaha_mirror.omaha import EventResult, EventType, describe_error, describe_event
from omaha_mirror.reasons import Reason
from omaha_mirror.text import ago, minute

SILENT = 6 * 3600
"""Seconds of silence after which a machine is missing: it asks at least every 4 hours, give or take half
(update_check_scheduler.cc:106-137)."""

_STATES = {
    State.UNDEFINED: "It is not known to be updating.",
    State.GRANTED: "It was offered a release and has not begun to download.",
    State.DOWNLOADING: "It is downloading.",
    State.DOWNLOADED: "It has downloaded the release and is writing it.",
    State.INSTALLED: "It has installed the release and waits for its reboot.",
    State.COMPLETE: "It has what it should have.",
    State.ON_HOLD: "It is kept back.",
    State.ERROR: "Its last attempt failed.",
}


def explain(
    machine: Machine, stretches: Sequence[DecisionRun], events: Iterable[Event], now: float
) -> list[str]:
    """Its last check, the answer, the reason, what would change the answer, and its last failure.

    Args:
        machine: as of its last request.
        stretches: its decisions, the newest first.
        events: the newest first.
        now: seconds since the epoch.
    """
    sentences = [_machine(machine, now), _STATES[machine.state]]
    if now - machine.last_seen > SILENT:
        sentences.append(
            "A running machine asks every 45 minutes, so it is off, cut off, or uses another server."
        )
    if stretches:
        sentences += _answers(stretches, now)
    elif machine.state is State.INSTALLED:
        sentences.append(
            "It has not asked since this mirror knows it: until its reboot it only pings."
        )
    else:
        sentences.append("It has not asked for an update since this mirror knows it.")
    trouble = _last_trouble(events)
    return sentences + (_failed(trouble, now) if trouble is not None else [])


def _machine(machine: Machine, now: float) -> str:
    alias = f" ({machine.alias})" if machine.alias else ""
    board = f" for {machine.board}" if machine.board else ""
    track = f", on track {machine.track}" if machine.track else ""
    seen = f"last heard of {_when(machine.last_seen, now)}"
    return (
        f"Machine {machine.machineid}{alias} at {machine.address} runs {machine.version or 'no known version'}"
        f"{board}{track}, {seen}."
    )


def _answers(stretches: Sequence[DecisionRun], now: float) -> list[str]:
    last = stretches[0]
    times = f", {last.count} times since {_when(last.first, now)}" if last.count > 1 else ""
    asked = (
        f"It asked for an update as {last.version or 'no version'} on track {last.track or 'none'}"
        f" {_when(last.last, now)}{times}."
    )
    if last.offered is not None:
        told = f"It was offered {last.offered}."
    else:
        told = f"It was told that there is no update: {last.detail or last.reason}."
    sentences = [asked, told]
    if (reason := Reason.named(last.reason)) is not None:
        sentences.append(reason.advice)
    sentences += [
        f"Before that, until {_when(earlier.last, now)}, it was offered {earlier.offered}."
        for earlier in stretches[1:]
        if earlier.offered is not None and earlier.offered != last.offered
    ][:1]
    return sentences


def _last_trouble(events: Iterable[Event]) -> Event | None:
    """The newest failure or deferral since the last successful update."""
    for event in events:
        done = (event.eventtype, event.eventresult) == (
            EventType.UPDATE_COMPLETE,
            EventResult.SUCCESS_REBOOT,
        )
        if done and event.previousversion not in NO_VERSION:
            return None
        if event.eventresult in FAILURES or event.eventresult == EventResult.UPDATE_DEFERRED:
            return event
    return None


def _failed(event: Event, now: float) -> list[str]:
    words = describe_event(
        event.eventtype, event.eventresult, event.errorcode, event.previousversion
    )
    sentences = [f"It reported {_when(event.time, now)}, as {event.version}: {words}."]
    cause = cause_of(event.errorcode) if event.errorcode is not None else None
    if cause is not None:
        sentences += [f"Likely cause: {cause.likely}", f"What helps: {cause.remedy}"]
    elif event.errorcode is not None:
        base = describe_error(event.errorcode).base
        sentences.append(
            f"Error {base} comes from the machine itself: see `journalctl -u update-engine`."
        )
    return sentences


def _when(time: float, now: float) -> str:
    """A time with its age: `2026-11-23 20:21 UTC (5 minutes ago)`."""
    return f"{minute(time)} ({ago(now - time)})"
