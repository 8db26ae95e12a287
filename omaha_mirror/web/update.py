"""The Omaha endpoint: a machine asks, is told, and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from omaha_mirror.catalog import Decision, Release, answer
from omaha_mirror.omaha import (
    AppRequest,
    AppResponse,
    Manifest,
    OmahaError,
    Response,
    describe_event,
    localise,
    parse_request,
    serialise_response,
)
from omaha_mirror.telemetry import printable
from omaha_mirror.web.base_url import base_url
from omaha_mirror.web.body import read_body
from omaha_mirror.web.mirror import Mirror

LOG = structlog.get_logger(__name__)
REMEMBERED = 1000
"""Addresses whose broken requests were logged: each is logged once. And answers that are kept."""

Told = Sequence[tuple[AppRequest, Decision | None]]


class UpdateEndpoint:
    """`POST /v1/update`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._complained: set[str] = set()
        self._answers: dict[tuple[object, ...], tuple[Release | None, bytes]] = {}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer each app of the request, in order; events and pings need nothing but this."""
        base = base_url(self._mirror.public_url, request.scheme, request.headers.get("Host", ""))
        body = await read_body(request)
        try:
            asked = parse_request(body)
        except OmahaError as error:
            self._complain(request.remote or "", str(error))
            raise
        decisions = await asyncio.gather(*map(self._decide, asked.apps))
        told = list(zip(asked.apps, decisions, strict=True))
        for app, decision in told:
            _log(request.remote, app, decision)
        return web.Response(body=self._serialised(told, base), content_type="text/xml")

    def _serialised(self, told: Told, base: str) -> bytes:
        """The answer's bytes; machines of one kind get the same ones, so they are made once."""
        if len(told) != 1:
            return serialise_response(_answer(told, base))
        [(app, decision)] = told
        shape = (base, *_shape(app, decision))
        known = self._answers.get(shape)
        if known is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            release = decision.release if decision is not None else None
            known = self._answers[shape] = release, serialise_response(_answer(told, base))
        return known[1]

    async def _decide(self, app: AppRequest) -> Decision | None:
        return await self._mirror.decide(app) if app.update_check is not None else None

    def _complain(self, remote: str, problem: str) -> None:
        if remote not in self._complained and len(self._complained) < REMEMBERED:
            self._complained.add(remote)
            LOG.warning("a client sends requests that cannot be read", remote=remote, why=problem)


def _shape(app: AppRequest, decision: Decision | None) -> tuple[object, ...]:
    """All that an answer is made of. A release is told by its identity: it is remembered with the answer."""
    asked = app.app_id, app.ping is not None, len(app.events)
    return asked if decision is None else (*asked, decision.reason, id(decision.release))


def _answer(told: Told, base: str) -> Response:
    releases = {
        id(decision.release.manifest): decision.release
        for _, decision in told
        if decision is not None and decision.release is not None
    }

    def codebase(_: AppResponse, manifest: Manifest) -> str:
        return f"{base}/packages/{releases[id(manifest)].id}/"

    return localise(answer(told), codebase)


def _log(remote: str | None, app: AppRequest, decision: Decision | None) -> None:
    machine = {
        "remote": remote,
        "machine": printable(app.machineid),
        "track": printable(app.track),
        "version": printable(app.version),
    }
    for event in app.events:
        words = describe_event(
            event.eventtype, event.eventresult, event.errorcode, event.previousversion
        )
        LOG.info("event", **machine, words=printable(words))
    if decision is not None:
        offered = decision.release.version if decision.release is not None else None
        why = {"why": printable(decision.words)} if offered is None else {}
        LOG.info("check", **machine, reason=decision.reason.value, offered=offered, **why)
    elif not app.events:
        LOG.debug("ping", **machine)
