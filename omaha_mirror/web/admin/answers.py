"""Requests and answers of the admin listener: JSON both ways."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, fields
from re import Pattern
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import structlog
from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from omaha_mirror.aio.workers import WORK
from omaha_mirror.catalog import BOARDS
from omaha_mirror.config.explain import UNKNOWN_KEY
from omaha_mirror.policy.tracks import NothingToFetch
from omaha_mirror.text import printable
from omaha_mirror.web.errors import BadRequest
from omaha_mirror.web.request import read_body

LOG = structlog.get_logger(__name__)
Handler = Callable[..., Awaitable[web.StreamResponse]]

READ = ("GET", "HEAD")
CHANGE = ("POST",)
LINES = "application/x-ndjson"
MAX_FIELDS = 20


@dataclass(frozen=True, slots=True)
class Route:
    """What answers the requests whose path matches whole; named groups become arguments of the handler.

    Attributes:
        open: whether anybody may ask, whatever the listener's address.
        form: whether it takes what a page's form sent: the handler gets it as `form`, and must look whether it is
            admitted, as no other proof of the token is asked for.
        gives: the type of a good answer's body; None leaves the route out of the API's description.
        takes: the type of the body that is read: a model or dataclass for JSON, or bytes.
        query: the type of the parameters that are read.
        media: what the answer is written in; JSON lines are each of the type.
        statuses: of answers with such a body.
    """

    methods: tuple[str, ...]
    path: Pattern[str]
    handler: Handler
    open: bool = False
    form: bool = False
    gives: Any = None
    takes: type[Any] | None = None
    query: type[BaseModel] | None = None
    media: str = "application/json"
    statuses: tuple[int, ...] = (200,)


@dataclass(frozen=True, slots=True)
class Form:
    """What a page's form sent.

    Attributes:
        fields: by name; the token is not among them.
        denied: why it is not admitted; None where the field `token` held the token.
    """

    fields: Mapping[str, str]
    denied: str | None


def as_json(data: object, status: int = 200) -> web.Response:
    """An answer in JSON; dataclasses become objects, without the copies that `asdict` would make of all they hold."""
    body = _line(data)
    headers = {"X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def as_long_json(make: Callable[[], object]) -> web.Response:
    """The same of what `make` gives, where it may be much: made and written in a worker."""
    return await WORK.call(lambda: as_json(make()))


def _line(data: object) -> bytes:
    return json.dumps(data, default=_as_data).encode() + b"\n"


def _as_data(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def refuse(status: int, why: str) -> web.Response:
    """An error in JSON."""
    return as_json({"error": why}, status)


async def as_lines(request: web.BaseRequest, objects: AsyncGenerator[object]) -> web.StreamResponse:
    """A line of JSON for each object as it comes. What fails before the first is raised; later the connection is cut."""
    response = web.StreamResponse(headers={"Content-Type": LINES})
    async with aclosing(objects):
        try:
            async for item in objects:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(_line(item))
        except OSError as error:
            if not response.prepared:
                raise
            LOG.warning("an answer was cut off", path=request.path, why=str(error))
            request.protocol.force_close()
    if not response.prepared:
        await response.prepare(request)
    return response


@contextmanager
def something_to_fetch() -> Iterator[None]:
    """Raises BadRequest where there is nothing to fetch: 404, or 502 where upstream does not answer."""
    try:
        yield
    except NothingToFetch as error:
        raise BadRequest(str(error), 502 if error.unreachable else 404) from error


async def read_form(request: web.BaseRequest) -> dict[str, str]:
    """The fields of a form. Raises BadRequest."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise BadRequest("send a form: application/x-www-form-urlencoded", 415)
    try:
        text = (await read_body(request)).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadRequest("the form cannot be read") from None


async def read_object(request: web.BaseRequest) -> dict[str, Any]:
    """A JSON object, or nothing. Raises BadRequest."""
    body = await read_body(request)
    try:
        sent = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise BadRequest("the body must be a JSON object")
    return sent


MAX_PARAMETERS = 20


class Question(BaseModel):
    """The parameters after the `?` of an address, or the JSON object of a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_board(board: str) -> str:
    if board not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}")
    return board


Board = Annotated[str, AfterValidator(_is_board), Field(json_schema_extra={"enum": list(BOARDS)})]
Q = TypeVar("Q")


def read_query(request: web.BaseRequest, model: type[Q]) -> Q:
    """The parameters of a request. Raises BadRequest."""
    given = request.query
    if len(given) > MAX_PARAMETERS or len(given) > len(set(given)):
        raise BadRequest("a parameter can be given once")
    return _validated(dict(given), model)


async def read_model(request: web.BaseRequest, model: type[Q]) -> Q:
    """The body of a request. Raises BadRequest."""
    return _validated(await read_object(request), model)


def _validated(sent: Mapping[str, Any], model: type[Q]) -> Q:
    try:
        return TypeAdapter(model).validate_python(sent)
    except ValidationError as error:
        raise BadRequest(_in_words(error)) from None


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, as one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = printable(".".join(map(str, first["loc"])))
    if first["type"] in UNKNOWN_KEY:
        return f"there is no {name} here"
    return f"{name}: {printable(first['msg'].removeprefix('Value error, '))}"
