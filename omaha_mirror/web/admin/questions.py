"""What a client asks with: parameters and bodies, held to models that also describe them.

What is not known is refused: a misspelt `dry_run` is not to remove anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from omaha_mirror.config.explain import UNKNOWN_KEY
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import read_object
from omaha_mirror.web.errors import BadRequest

MAX_PARAMETERS = 20


class Question(BaseModel):
    """The parameters after the `?` of an address, or the JSON object of a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


def _validated(told: Mapping[str, Any], model: type[Q]) -> Q:
    try:
        return TypeAdapter(model).validate_python(told)
    except ValidationError as error:
        raise BadRequest(_in_words(error)) from None


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, as one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = printable(".".join(map(str, first["loc"])))
    if first["type"] in UNKNOWN_KEY:
        return f"there is no {name} here"
    return f"{name}: {printable(first['msg'].removeprefix('Value error, '))}"
