"""The Omaha endpoint: answers checks, events and pings.

Equal answers are serialised once, whatever address machines know this mirror by.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import structlog
from aiohttp import web

from omaha_mirror.observability.observers import AppReport
from omaha_mirror.observability.telemetry import tell
from omaha_mirror.omaha import (
    AppRequest,
    AppResponse,
    BadValue,
    Manifest,
    OmahaError,
    Request,
    Response,
    codebase_problem,
    describe_event,
    localise,
    parse_request,
    serialise_response,
)
from omaha_mirror.omaha.xml import escape
from omaha_mirror.policy.decide import Decision
from omaha_mirror.policy.response import answer
from omaha_mirror.text import printable
from omaha_mirror.web.connection_table import client_key
from omaha_mirror.web.errors import plain, reply_to
from omaha_mirror.web.http_connection import MOST, WholeRequest
from omaha_mirror.web.interfaces import Decisions, Observer
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.request import base_url, host_of, read_body

LOG = structlog.get_logger(__name__)
REMEMBERED = 1000
"""Addresses whose broken requests were logged: each is logged once."""
Decided = Sequence[tuple[AppRequest, Decision | None]]
"""The apps of a request with the decisions about them; None: that one asks for none."""
LIMIT = 16 * 1024 * 1024
"""Bytes of all answers that are kept."""
LONGEST = 200
"""Characters of a value in the log."""
LARGE = LIMIT // 8
"""Bytes from which on an answer is not kept: it would push out too many others."""
ENTRY = 1000
"""Bytes that an entry costs besides its answer, about."""
HERE = f"http://{secrets.token_hex(16)}.invalid"
"""Stands in an answer for the address of this mirror. Nobody else can know it."""


class UpdateEndpoint:
    """`POST /v1/update`."""

    def __init__(self, decisions: Decisions, observer: Observer, settings: PublicSettings) -> None:
        self._decisions, self._observer, self._settings = decisions, observer, settings
        self._complained: set[str] = set()
        self._answers = Answers()

    def at_once(self, request: WholeRequest) -> bytes | None:
        """The answer to a request whose checks wait for nothing, else None. Raises BadRequest, OmahaError."""
        began = time.monotonic()
        base = base_url(self._settings.public_url, request.scheme, request.host)
        asked = parse_request(request.body)
        decisions = []
        for app in asked.apps:
            decision = None
            if app.update_check is not None:
                decision = self._decisions.at_once(app, request.client)
                if decision is None:
                    return None
            decisions.append(decision)
        decided = list(zip(asked.apps, decisions, strict=True))
        answer = self._serialised(decided, base)
        if len(answer) > MOST:
            return None
        self._record(asked, decided, request.remote, began)
        return answer

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer each app of the request, in order; events and pings need nothing but this."""
        began = time.monotonic()
        base = base_url(self._settings.public_url, request.scheme, host_of(request))
        body = await read_body(request)
        remote = request.remote or ""
        try:
            asked = parse_request(body)
        except OmahaError as error:
            reply = reply_to(error)
            tell(self._observer.on_bad_request, reply.label)
            self._log_bad_request(remote, reply.label, str(error))
            return plain(reply.status, str(error))
        client = client_key(remote)
        if len(asked.apps) == 1:  # which is nearly always so, and needs no task of its own
            decisions = [await self._decide(asked, asked.apps[0], client)]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._decide(asked, app, client)) for app in asked.apps]
            decisions = [task.result() for task in tasks]
        decided = list(zip(asked.apps, decisions, strict=True))
        answer = self._serialised(decided, base)
        self._record(asked, decided, remote, began)
        return web.Response(body=answer, content_type="text/xml")

    def _record(self, asked: Request, decided: Decided, remote: str, began: float) -> None:
        """Record, forward and log what a request says and what was decided."""
        for app, decision in decided:
            report = AppReport(app, decision, remote)
            tell(self._decisions.forward_reports, asked, app, decision)
            tell(self._observer.on_app, report)
            _log(report, time.monotonic() - began)

    def _serialised(self, decided: Decided, base: str) -> bytes:
        """The answer's bytes; machines of one kind get the same ones, so they are made once."""
        if len(decided) != 1:
            return serialise_response(self._answer(decided, base))
        [(app, decision)] = decided
        shape = (self._settings.fallback, *_shape(app, decision))
        known = self._answers.find(shape, base)
        if known is not None:
            return known
        return self._answers.make(
            shape,
            base,
            lambda base: serialise_response(self._answer(decided, base)),
            variable=len(app.app_id),
            owner=decision.release if decision is not None else None,
        )

    async def _decide(self, asked: Request, app: AppRequest, client: str) -> Decision | None:
        if app.update_check is None:
            return None
        return await self._decisions.decide(asked, app, client)

    def _answer(self, decided: Decided, base: str) -> Response:
        releases = {
            id(decision.release.manifest): decision.release
            for _, decision in decided
            if decision is not None and decision.release is not None
        }

        def codebase(_: AppResponse, manifest: Manifest) -> str:
            return f"{base}/packages/{releases[id(manifest)].id}/"

        return localise(answer(decided), codebase, fallback=self._settings.fallback)

    def _log_bad_request(self, remote: str, label: str, problem: str) -> None:
        LOG.debug("bad request", remote=remote, error=label, why=problem)
        if remote not in self._complained and len(self._complained) < REMEMBERED:
            self._complained.add(remote)
            LOG.warning("a client sends requests that cannot be read", remote=remote, why=problem)


def _shape(app: AppRequest, decision: Decision | None) -> tuple[object, ...]:
    """All that an answer is made of. A release counts by its identity: it is remembered with the answer."""
    asked = app.app_id, app.ping is not None, len(app.events)
    if decision is None:
        return asked
    return (*asked, decision.reason, decision.poll_interval, id(decision.release))


def _log(report: AppReport, seconds: float) -> None:
    """Log one line for a request: what the machine sent, the decision, and why."""
    app, decision = report.app, report.decision
    line = {
        "remote": report.remote,
        "machine": app.machineid,
        "track": app.track,
        "board": app.board,
        "version": app.version,
    }
    if app.events and (reported := _reported(app)):
        line["events"] = reported
    if decision is not None:
        line["decision"] = "offered" if decision.release is not None else "noupdate"
        line["reason"] = decision.reason.value
        if decision.release is not None:
            line["offered"] = decision.release.version
        else:
            line["why"] = decision.words
    if not "".join(line.values()).isprintable() or max(map(len, line.values())) > LONGEST:
        line = {name: printable(value, LONGEST) for name, value in line.items()}
    if decision is not None:
        LOG.info("check", **line, seconds=round(seconds, 3))
    else:
        LOG.info("event" if app.events else "ping", **line)


def _reported(app: AppRequest) -> str:
    """What a machine reports, in words; that it runs what it runs, which every check says, is left out."""
    events = [event for event in app.events if event.previousversion != ""]
    return "; ".join(
        [describe_event(e.eventtype, e.eventresult, e.errorcode, e.previousversion) for e in events]
    )


class Answers:
    """The bytes of answers by what they are made of; those used last are kept.

    Args:
        limit: of the bytes of all.

    Attributes:
        size: bytes that are kept, about.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.size = 0
        self._limit = limit
        self._kept: dict[Hashable, tuple[list[bytes], int, object]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, shape: Hashable, base: str) -> bytes | None:
        """The kept answer of that shape with `base` as the mirror's address; None where there is none. Raises BadValue."""
        found = self._kept.pop(shape, None)
        if found is None:
            return None
        self._kept[shape] = found
        return _joined(found[0], base)

    def make(
        self,
        shape: Hashable,
        base: str,
        make: Callable[[str], bytes],
        *,
        variable: int,
        owner: object,
    ) -> bytes:
        """Make it and keep it.

        Args:
            shape: all that it is made of.
            base: `scheme://host[:port]`.
            make: makes it for a base.
            variable: bytes of `shape` that a client chose.
            owner: whose identity is part of the shape: it lives as long as the answer.

        Raises:
            BadValue: the base makes no address.
        """
        parts = make(HERE).split(HERE.encode())
        size = sum(map(len, parts)) + variable + ENTRY
        if size <= min(LARGE, self._limit):
            self._kept[shape] = parts, size, owner
            self.size += size
        while self.size > self._limit:
            _, gone, _ = self._kept.pop(next(iter(self._kept)))
            self.size -= gone
        return _joined(parts, base)


def _joined(parts: list[bytes], base: str) -> bytes:
    return written(base).join(parts) if len(parts) > 1 else parts[0]


@lru_cache(1024)
def written(base: str) -> bytes:
    """An address as it is written in an answer. Raises BadValue where machines would not all read it alike."""
    if problem := codebase_problem(f"{base}/"):
        raise BadValue(f"the address {base[:200]!r} {problem}")
    return escape(base).encode()
