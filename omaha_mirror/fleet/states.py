"""The state of a machine, with the names of Nebraska, from what update_engine sends.

One update is: a check that is offered a release, event 13/1, the download, 14/1, 3/1, then pings alone until the reboot,
and with the next check 3/2 with the version before it (omaha_request_action.cc:83-140). `previousversion=""`
comes with every check and means nothing; `0.0.0.0` comes with the first check of a machine. Nebraska's own rules wait for an event
800 that update_engine does not have, so under those rules a machine never becomes "installed".
"""

from __future__ import annotations

from omaha_mirror.fleet.model import CheckIn, Event, EventReport, State
from omaha_mirror.omaha import EventRequest, EventResult, EventType
from omaha_mirror.reasons import Effect, Reason

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
