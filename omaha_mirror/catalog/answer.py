"""From decisions to the answer that a machine reads."""

from __future__ import annotations

from collections.abc import Iterable

from omaha_mirror.catalog.decide import Decision
from omaha_mirror.catalog.reasons import Reason
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
    Url,
)

NO_UPDATE = UpdateCheck(status=UpdateStatus.NO_UPDATE)


def answer(apps: Iterable[tuple[AppRequest, Decision | None]]) -> Response:
    """Answer each app in order; the decision is None where no update was asked for.

    The codebases are those of the packages' sources: `omaha.localise` points them here.
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
        update_check=_check(decision),
        events=tuple(EventResponse(status="ok") for _ in app.events),
    )


def _check(decision: Decision | None) -> UpdateCheck | None:
    if decision is None:
        return None
    if decision.release is None:
        return NO_UPDATE
    source = decision.release.payload.url.rpartition("/")[0] + "/"
    return UpdateCheck(
        status=UpdateStatus.OK,
        urls=(Url(codebase=source),),
        manifests=(decision.release.manifest,),
    )
