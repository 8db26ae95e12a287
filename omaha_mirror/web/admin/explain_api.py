"""`/api/v1/explain`: the answer that a request would get, without recording it, and upstream's own answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web
from pydantic import StrictBool

from omaha_mirror.omaha import AppRequest, OmahaError, parse_request
from omaha_mirror.policy.dry_run import UpstreamAnswer, can_be_asked, difference, sentences
from omaha_mirror.service import Service
from omaha_mirror.web.admin.answers import CHANGE, Question, Route, as_json, read_model
from omaha_mirror.web.errors import BadRequest


class Replay(Question):
    """A request to be judged as a machine's.

    Attributes:
        request: an Omaha request, in XML.
        upstream: whether to ask upstream too, with an id of the mirror's own.
    """

    request: str
    upstream: StrictBool = False


@dataclass(frozen=True, slots=True)
class Previewed:
    """The answer that one application of a request would get.

    Attributes:
        reason: for the answer; null where upstream itself would answer.
        offered: the version that would be offered.
        upstream: upstream's answer to such a machine; null where it was not asked.
        explanation: all of it in sentences.
    """

    app_id: str
    reason: str | None
    offered: str | None
    upstream: UpstreamAnswer | None
    explanation: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """The answers that a request would get, one for each application."""

    apps: tuple[Previewed, ...]


class ExplainApi:
    """Judges requests without recording them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        path = re.compile("/api/v1/explain")
        return (Route(CHANGE, path, self._explain, gives=Preview, takes=Replay),)

    async def _explain(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer that this request would get, by what is known now.

        Nothing is recorded, and upstream is not asked with the machine's id.
        """
        replay = await read_model(request, Replay)
        try:
            asked = parse_request(replay.request.encode(errors="replace"))
        except OmahaError as error:
            raise BadRequest(f"the request cannot be read: {error}") from None
        apps = [app for app in asked.apps if app.update_check is not None]
        if not apps:
            raise BadRequest("the request asks for no update: it has no updatecheck")
        previews = [await self._preview(app, ask_upstream=replay.upstream) for app in apps]
        return as_json(Preview(tuple(previews)))

    async def _preview(self, app: AppRequest, *, ask_upstream: bool) -> Previewed:
        decision = self._service.decisions.dry_run(app)
        rule = self._service.rules(app.track)
        override = self._service.overrides.get(app.track)
        explanation = sentences(app, rule, decision)
        if override is not None:
            explanation.append(override.words)
        theirs = None
        if ask_upstream and decision is not None and can_be_asked(rule, decision):
            theirs = await self._service.omaha_upstream.upstream_answer(app, rule)
            explanation.append(difference(decision, theirs))
        elif ask_upstream:
            explanation.append(
                "Upstream is asked for comparison only about tracks that follow it or are pinned."
            )
        release = decision.release if decision is not None else None
        return Previewed(
            app_id=app.app_id,
            reason=decision.reason.value if decision is not None else None,
            offered=release.version if release is not None else None,
            upstream=theirs,
            explanation=tuple(explanation),
        )
