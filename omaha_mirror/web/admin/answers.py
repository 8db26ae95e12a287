"""What the admin listener's answers and requests are made of: JSON both ways."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from re import Pattern
from typing import Any

import structlog
from aiohttp import web

from omaha_mirror.web.body import read_body
from omaha_mirror.web.errors import BadRequest

LOG = structlog.get_logger(__name__)
Handler = Callable[..., Awaitable[web.StreamResponse]]

READ = ("GET", "HEAD")
CHANGE = ("POST",)


@dataclass(frozen=True, slots=True)
class Route:
    """What answers the requests whose path matches whole; named groups become arguments of the handler.

    Attributes:
        open: whether anybody may ask, whatever the listener's address.
    """

    methods: tuple[str, ...]
    path: Pattern[str]
    handler: Handler
    open: bool = False


def as_json(data: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    body = json.dumps(data).encode() + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


def refuse(status: int, why: str) -> web.Response:
    """An error in JSON."""
    return as_json({"error": why}, status)


async def as_lines(
    request: web.BaseRequest, objects: AsyncGenerator[dict[str, Any]]
) -> web.StreamResponse:
    """A line of JSON for each object as it comes. What fails before the first is raised; later the connection is cut."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with aclosing(objects):
        try:
            async for item in objects:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(json.dumps(item).encode() + b"\n")
        except OSError as error:
            if not response.prepared:
                raise
            LOG.warning("an answer was broken off", path=request.path, why=str(error))
            request.protocol.force_close()
    if not response.prepared:
        await response.prepare(request)
    return response


async def read_object(request: web.BaseRequest) -> dict[str, Any]:
    """A JSON object, or nothing. Raises BadRequest."""
    body = await read_body(request)
    try:
        told = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise BadRequest("the body must be a JSON object")
    return told


def flag(told: dict[str, Any], name: str) -> bool:
    """A boolean of an object, false where it is not there. Raises BadRequest."""
    value = told.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def text(told: dict[str, Any], name: str, default: str | None = None) -> str:
    """A text of an object. Raises BadRequest."""
    value = told.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value
