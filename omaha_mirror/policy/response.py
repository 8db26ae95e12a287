"""The Omaha response for decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from omaha_mirror.omaha import (
    AppRequest,
    AppResponse,
    AppStatus,
    DayStart,
    EventResponse,
    PingResponse,
    Response,
    UpdateCheck,
    UpdateStatus,
)
from omaha_mirror.policy.decide import Decision
from omaha_mirror.reasons import Reason


def answer(apps: Iterable[tuple[AppRequest, Decision | None]]) -> Response:
    """The answer to each app, in order; the decision is None for an app without an updatecheck.

    An offer is upstream's updatecheck, unchanged; `omaha.localise` then replaces its codebases.
    """
    return Response(
        server="omaha-mirror",
        daystart=DayStart(elapsed_seconds=0),
        apps=tuple(_app(app, decision) for app, decision in apps),
    )


def _app(app: AppRequest, decision: Decision | None) -> AppResponse:
    unknown = decision is not None and decision.reason is Reason.UNKNOWN_APP
    return AppResponse(
        appid=app.app_id,
        status=AppStatus.UNKNOWN_APPLICATION if unknown else AppStatus.OK,
        ping=PingResponse(status="ok") if app.ping is not None else None,
        update_check=_check(decision) if decision is not None else None,
        events=tuple(EventResponse(status="ok") for _ in app.events),
    )


def _check(decision: Decision) -> UpdateCheck:
    if decision.release is None:
        return UpdateCheck(status=UpdateStatus.NO_UPDATE, poll_interval=decision.poll_interval)
    check = decision.release.check
    poll = check.poll_interval if decision.poll_interval is None else decision.poll_interval
    return replace(check, status=UpdateStatus.OK, poll_interval=poll)
