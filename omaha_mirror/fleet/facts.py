"""What an Omaha request says about its machine, in the order in which it counts.

The event that update_engine adds to every check says nothing, and makes no fact.
"""

from __future__ import annotations

from omaha_mirror.fleet.model import CheckIn, EventReport
from omaha_mirror.omaha import AppRequest, EventRequest, EventResult, EventType


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
