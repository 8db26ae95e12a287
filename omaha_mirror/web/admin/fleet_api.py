"""`/api/v1/machines`, `/events` and `/decisions`: the machines, the last decisions about them and why, and their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal
from urllib.parse import unquote

from aiohttp import web
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from omaha_mirror.fleet import (
    FleetReader,
    FleetUnavailable,
    History,
    MachineQuery,
    State,
    explain,
)
from omaha_mirror.fleet.listing import MAX_PER_PAGE, Sort
from omaha_mirror.service import Service
from omaha_mirror.text import printable
from omaha_mirror.web.admin.answers import READ, Question, Route, as_long_json, read_query
from omaha_mirror.web.admin.fleet_answers import (
    FleetEvents,
    LastDecisions,
    MachineHistory,
    Machines,
    event_info,
    fleet_event,
    last_decision,
    machine_info,
)
from omaha_mirror.web.errors import BadRequest

NAME = r"(?P<name>[^/]+)"
MAX_PAGE = 1_000_000
NAMED = 5
"""Machines that an ambiguous name lists."""

Text = Annotated[str, Field(max_length=200)]
Some = Annotated[int, Field(ge=1, le=MAX_PER_PAGE)]


class Filter(Question):
    """Which machines: those with these values, and the page of them."""

    search: Text = ""
    """Part of the id, the alias or the address."""
    state: State | SkipJsonSchema[None] = None
    version: Text | SkipJsonSchema[None] = None
    track: Text | SkipJsonSchema[None] = None
    board: Text | SkipJsonSchema[None] = None
    page: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 1
    per_page: Some = 50


class Sorted(Filter):
    """Which machines, in which order."""

    sort: Sort = "last_seen"
    order: Literal["asc", "desc"] = "desc"


class OneOf(Question):
    """Which application of a machine; without it, the one last seen."""

    app_id: Text | SkipJsonSchema[None] = None


class Last(Question):
    """How many."""

    limit: Some = 50


class FleetApi:
    """Answers questions about machines."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> tuple[Route, ...]:
        """Its routes."""
        root = "/api/v1"
        return (
            Route(
                READ, re.compile(f"{root}/machines"), self._machines, gives=Machines, query=Sorted
            ),
            Route(
                READ,
                re.compile(f"{root}/machines/{NAME}"),
                self._machine,
                gives=MachineHistory,
                query=OneOf,
            ),
            Route(READ, re.compile(f"{root}/events"), self._events, gives=FleetEvents, query=Last),
            Route(
                READ,
                re.compile(f"{root}/decisions"),
                self._decisions,
                gives=LastDecisions,
                query=Filter,
            ),
        )

    @property
    def _reader(self) -> FleetReader:
        return self._service.fleet_feed.reader

    async def _machines(self, request: web.BaseRequest) -> web.StreamResponse:
        """Machines, searched, filtered and sorted, a page at a time."""
        asked = read_query(request, Sorted)
        with fleet_is_there():
            page = await self._reader.machines(
                _query(asked, asked.sort, descending=asked.order == "desc")
            )
        return await as_long_json(
            lambda: Machines(
                tuple(map(machine_info, page.machines)), page.total, asked.page, asked.per_page
            )
        )

    async def _machine(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """A machine by its id, its alias or the beginning of its id: why it is in its state, and its history."""
        asked = read_query(request, OneOf)
        with fleet_is_there():
            history = await find(self._reader, unquote(name), asked.app_id)
        override = self._service.overrides.get(history.machine.track)
        why = explain(
            history.machine, history.stretches, history.events, self._service.clock.time()
        )
        return await as_long_json(
            lambda: MachineHistory(
                machine_info(history.machine),
                tuple(why if override is None else [*why, override.words]),
                history.stretches,
                tuple(map(event_info, history.events)),
            )
        )

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        """The newest errors that machines reported, in words."""
        asked = read_query(request, Last)
        with fleet_is_there():
            found = await self._reader.recent_errors(asked.limit)
        return await as_long_json(lambda: FleetEvents(tuple(map(fleet_event, found))))

    async def _decisions(self, request: web.BaseRequest) -> web.StreamResponse:
        """The last decision about each machine, and why."""
        asked = read_query(request, Filter)
        with fleet_is_there():
            page = await self._reader.machines(_query(asked, "last_seen", descending=True))
        return await as_long_json(
            lambda: LastDecisions(
                tuple(map(last_decision, page.machines)), page.total, asked.page, asked.per_page
            )
        )


@contextmanager
def fleet_is_there() -> Iterator[None]:
    """Raises BadRequest (503) where the database of the fleet does not answer."""
    try:
        yield
    except FleetUnavailable as error:
        raise BadRequest(str(error), 503) from error


async def find(reader: FleetReader, name: str, app_id: str | None = None) -> History:
    """The machine by its id, its alias, or the beginning of its id.

    Raises:
        BadRequest: there is none (404), or there are several (409).
        FleetUnavailable: the database does not answer.
    """
    wanted = name.strip("{}").lower()
    history = await reader.machine(wanted, app_id) or await reader.machine(name, app_id)
    if history is not None:
        return history
    page = await reader.machines(MachineQuery(search=name, per_page=MAX_PER_PAGE))
    by_alias = {m.machineid for m in page.machines if m.alias == name}
    beginning = {m.machineid for m in page.machines if m.machineid.lower().startswith(wanted)}
    ids = by_alias or beginning
    if len(ids) == 1 and (history := await reader.machine(ids.pop(), app_id)) is not None:
        return history
    if len(ids) > 1:
        some = ", ".join(sorted(ids)[:NAMED])
        raise BadRequest(f"{len(ids)} machines are meant by {printable(name)}, such as {some}", 409)
    if page.total > len(page.machines):
        raise BadRequest(
            f"{page.total} machines match {printable(name)}: write more of the id", 409
        )
    raise BadRequest(f"no machine has the id or the alias {printable(name)}", 404)


def _query(asked: Filter, sort: Sort, *, descending: bool) -> MachineQuery:
    return MachineQuery(**asked.model_dump(include=_FILTERS), sort=sort, descending=descending)


_FILTERS = {*Filter.model_fields}
