"""The API described (OpenAPI 3.1), made from the routes that answer it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from pydantic import TypeAdapter

from omaha_mirror import __version__
from omaha_mirror.web.admin.answers import LINES, READ, Route

_GROUP = re.compile(r"\(\?P<(\w+)>((?:\[[^\]]*\]|[^()\[\]])+)\)")
_MODES = ("serialization", "validation")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Error:
    """What went wrong, in words for people."""

    error: str


def description(routes: Iterable[Route]) -> Json:
    """Routes as an OpenAPI document: those that declare their answers."""
    described = [route for route in routes if route.gives is not None]
    schemas = _Schemas(described)
    paths: dict[str, Json] = {}
    for route in described:
        methods = [method for method in route.methods if method != "HEAD"]
        operations = paths.setdefault(_template(route), {})
        operations.update(
            (method.lower(), _operation(route, method, schemas)) for method in methods
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "omaha-mirror",
            "version": __version__,
            "description": (
                "What changes anything needs the token; where the listener is reachable from beyond"
                " loopback, all but /readyz does. Times are seconds since the epoch, sizes are bytes."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The JSON Schemas of all that routes take and give, with one definition for each type."""

    def __init__(self, routes: Sequence[Route]) -> None:
        given = {route.gives for route in routes} | {Error}
        taken = {
            kind for route in routes for kind in (route.takes, route.query) if kind is not None
        }
        wanted: list[Any] = [(kind, "serialization", TypeAdapter(kind)) for kind in given - {Json}]
        wanted += [(kind, "validation", TypeAdapter(kind)) for kind in taken]
        wanted.sort(key=lambda item: str(item[0]))
        made, rest = TypeAdapter.json_schemas(wanted, ref_template="#/components/schemas/{model}")
        self._made: dict[tuple[Any, str], Json] = dict(made)  # type: ignore[arg-type]  # the keys are those of `wanted`; pydantic says only that they can be hashed
        self.components: Json = rest.get("$defs", {})

    def of(self, kind: Any) -> Json:
        """The schema of a type, or a reference to it."""
        if kind == Json:
            return {"type": "object"}
        return next(self._made[kind, mode] for mode in _MODES if (kind, mode) in self._made)

    def whole(self, kind: Any) -> Json:
        """The schema of a type, where `of` gives a reference."""
        schema = self.of(kind)
        found: Json = (
            self.components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        )
        return found


def _template(route: Route) -> str:
    """The path as OpenAPI writes it: `/api/v1/cache/{key}`."""
    return _GROUP.sub(r"{\1}", route.path.pattern).replace("\\", "")


def _operation(route: Route, method: str, schemas: _Schemas) -> Json:
    summary, _, more = (route.handler.__doc__ or "").strip().partition("\n")
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{_template(route)}").strip("_"),
        "summary": summary,
        "parameters": [*_in_path(route), *_in_query(route, schemas)],
        "responses": {
            **{str(status): _response(route, summary, schemas) for status in route.statuses},
            "default": {
                "description": "What went wrong; plain text where it was no HTTP.",
                "content": {
                    "application/json": {"schema": schemas.of(Error)},
                    "text/plain": {"schema": {"type": "string"}},
                },
            },
        },
    }
    if more := " ".join(more.split()):
        operation["description"] = more
    if route.takes is not None:
        raw = route.takes is bytes
        media = "application/octet-stream" if raw else "application/json"
        operation["requestBody"] = {
            "required": raw or bool(schemas.whole(route.takes).get("required")),
            "content": {media: {"schema": schemas.of(route.takes)}},
        }
    if not route.open:
        without: list[Json] = [{}] if method in READ else []
        operation["security"] = [*without, {"token": []}]
    return operation


def _response(route: Route, summary: str, schemas: _Schemas) -> Json:
    words = summary
    if is_dataclass(route.gives):
        words = (route.gives.__doc__ or "").partition("\n")[0]
    if route.media == LINES:
        words = f"A line of JSON for each: {words}"
    return {
        "description": words,
        "content": {route.media: {"schema": schemas.of(route.gives)}},
    }


def _in_path(route: Route) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{pattern}$"},
        }
        for name, pattern in _GROUP.findall(route.path.pattern)
    ]


def _in_query(route: Route, schemas: _Schemas) -> list[Json]:
    if route.query is None:
        return []
    model = schemas.whole(route.query)
    needed = model.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": _without_null(schema)}
        for name, schema in model.get("properties", {}).items()
    ]


def _without_null(schema: Json) -> Json:
    """An absent parameter has no value: `null` is not one."""
    return {name: value for name, value in schema.items() if (name, value) != ("default", None)}
