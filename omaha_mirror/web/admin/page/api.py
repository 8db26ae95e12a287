"""The handlers of the status page.

It works without scripts. With them the parts renew themselves, by requests that are answered 304 while nothing changes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from urllib.parse import unquote

import structlog
from aiohttp import web
from pydantic import ValidationError

from omaha_mirror.config import Address, Hold, Pin
from omaha_mirror.fleet import FleetUnavailable, State
from omaha_mirror.policy.track_rules import BadOverride
from omaha_mirror.service import Service
from omaha_mirror.web.admin.answers import Form, Handler
from omaha_mirror.web.admin.page import machines
from omaha_mirror.web.admin.page.fragments import PARTS, Fragments
from omaha_mirror.web.admin.page.rendering import HERE, Rendered, reply
from omaha_mirror.web.admin.page.templates import as_markup, compile_templates, render
from omaha_mirror.web.errors import BadRequest

LOG = structlog.get_logger(__name__)


async def change_track(service: Service, fields: Mapping[str, str]) -> str:
    """Hold, pin or release a track by a form; gives a sentence. Raises BadRequest, OSError."""
    track = fields.get("track", "").strip()
    try:
        match fields.get("do"):
            case "hold":
                override = await service.overrides.put(track, Hold())
            case "pin":
                override = await service.overrides.put(track, _pin(fields.get("version", "")))
            case "release":
                return await _release(service, track)
            case _:
                raise BadRequest("choose what to do: hold, pin or release")
    except BadOverride as error:
        raise BadRequest(str(error)) from None
    LOG.info("a track has another rule", track=track, rule=override.words)
    return override.words


def _pin(version: str) -> Pin:
    try:
        return Pin(version=version.strip())
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise BadRequest(f"the version to pin to cannot be read: {why}") from None


async def _release(service: Service, track: str) -> str:
    if await service.overrides.remove(track) is None:
        raise BadRequest(f"nothing is to be released: the track {track} has the config's rule", 404)
    LOG.info("a track goes by the config again", track=track)
    return f"The track {track} has the config's rule again."


async def ask_upstream(service: Service) -> str:
    """Ask upstream about all tracks that are followed; gives a sentence."""
    found = await service.warm_up.sync()
    if not found:
        return "No track is followed, so there was nothing to ask."
    troubled = [status for status in found if status.trouble]
    if troubled:
        raise BadRequest(f"upstream was asked; {troubled[0].track}: {troubled[0].trouble}", 502)
    return "Upstream was asked, and answered."


STATIC = {
    "htmx.min.js": "text/javascript",
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
}


class PageApi:
    """Shows a service to people."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = service.fleet_feed.reader
        self._fragments = Fragments(service)
        compile_templates()
        self._static = {name: Rendered.of((HERE / "static" / name).read_bytes()) for name in STATIC}

    def handlers(self) -> dict[str, Handler]:
        """By the name of the route."""
        handlers: dict[str, Handler] = {
            "overview": self._overview,
            "machines": self._machines,
            "machine": self._machine,
            "fragment": self._fragment,
            "static": self._file,
            "track": self._track,
            "sync": self._sync,
        }
        return {name: _for_people(handler) for name, handler in handlers.items()}

    async def _overview(self, request: web.BaseRequest) -> web.StreamResponse:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._fragments.get(part.name)) for part in PARTS]
        bodies = [as_markup(body) for task in tasks if (body := task.result()) is not None]
        parts = list(zip(PARTS, bodies, strict=True))
        return _page(
            request,
            "overview.html",
            parts=parts,
            server=self._server(request.headers.get("Host", "")),
            tracks=sorted({*self._service.config.tracks, *await self._known_tracks()}),
        )

    async def _known_tracks(self) -> set[str]:
        return {channel.track for channel in await self._service.warm_up.channels()}

    def _server(self, host: str) -> str:
        """SERVER of a machine's update.conf; where nothing else is known, by the name that the operator uses."""
        config = self._service.config
        if config.public_url is not None:
            return f"{config.public_url}/v1/update/"
        name = re.sub(r":[0-9]*$", "", host)
        if Address(name.strip("[]"), 0).is_loopback or name == "localhost":
            name = socket.gethostname()
        return f"http://{name}:{config.listen[0].port}/v1/update/"

    async def _machines(self, request: web.BaseRequest) -> web.StreamResponse:
        query = machines.query_of(request.query)
        page = await self._reader.machines(query)
        now = self._service.clock.time()
        last = max(1, -(-page.total // query.per_page))
        return _page(
            request,
            "machines.html",
            query=query,
            rows=[machines.row(machine, now) for machine in page.machines],
            found=machines.found(page.total, query),
            states=list(State),
            sorts=machines.SORTS,
            previous=machines.page_url(query, query.page - 1) if query.page > 1 else None,
            next=machines.page_url(query, query.page + 1) if query.page < last else None,
            last=last,
        )

    async def _machine(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        history = await self._reader.machine(unquote(name), request.query.get("app"))
        if history is None:
            raise BadRequest("This mirror knows no such machine.", 404)
        view = machines.machine(history, self._service.clock.time())
        return _page(request, "machine.html", machine=view, here=request.path_qs)

    async def _fragment(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        rendered = await self._fragments.get(name)
        if rendered is None:
            raise BadRequest("There is no such part of the page.", 404)
        return reply(request, rendered)

    async def _file(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        if name not in STATIC:
            raise BadRequest("There is no such file.", 404)
        return reply(request, self._static[name], STATIC[name])

    async def _track(self, request: web.BaseRequest, form: Form) -> web.StreamResponse:
        _admit(form)
        done = await change_track(self._service, form.fields)
        self._fragments.expire()
        return _message(request, 200, done)

    async def _sync(self, request: web.BaseRequest, form: Form) -> web.StreamResponse:
        _admit(form)
        done = await ask_upstream(self._service)
        self._fragments.expire()
        return _message(request, 200, done)


def _page(request: web.BaseRequest, template: str, **values: object) -> web.Response:
    return reply(request, Rendered.of(render(template, **values).encode()))


def _message(request: web.BaseRequest, status: int, words: str) -> web.Response:
    """One sentence, and the way back."""
    page = render("message.html", words=words, good=status == 200)
    return reply(request, Rendered.of(page.encode()), status=status)


def _admit(form: Form) -> None:
    if form.denied is not None:
        raise BadRequest(form.denied, 403)


def _for_people(handler: Handler) -> Handler:
    """A handler whose errors are pages."""

    async def answer(request: web.BaseRequest, **arguments: object) -> web.StreamResponse:
        try:
            return await handler(request, **arguments)
        except BadRequest as error:
            return _message(request, error.status, str(error))
        except FleetUnavailable as error:
            return _message(request, 503, str(error))

    return answer
